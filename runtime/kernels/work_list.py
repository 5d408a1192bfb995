"""The attention work of one step as a list of items: (query rows, KV range, where results go).

A query is one request's rows in the step: one row when it decodes, a chunk when it prefills. Its
slots stand in a table at `slot_base`: position p of the request is in `slots[slot_base + p]`. Its
`path` names the radix nodes it runs through, root first. From that `plan_work` makes

- one item per long range of positions that several decoding requests share, with all their rows:
  its K and V are read once for all of them;
- items for what each request has alone, split every `split_len` positions;
- items for the row tiles of prefill chunks.

Small items and large ones are lists of their own, for launches that run side by side. Large ones
are also cut where long runs of consecutive slots begin and end: the kernel loads runs as blocks.

Other split points are multiples of `split_len`, so with a fixed `split_len`, `share_min=None` and
no `Query.slots` the arithmetic of a request does not depend on what else is in the step.

A row with one item gets its result from that item; a row with several gets partial results, laid
next to each other in order of position, which the item that finishes last adds up. The kernel clips
each item to the rows' positions on the device, so a list planned with `room` stays right while
every decoding request grows by up to `room` tokens.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np

from ramify.runtime.kernels.work_split import choose_cut, cut_at_multiples, deal, ramp

# row_start, num_rows, first_row, last_row, slot_base, kv_start, kv_end, and the slot of kv_start
# where all slots of a large item are consecutive, else -1
ITEM_FIELDS = 8
SMALL_ROWS = 16  # rows x heads of a group that one tensor-core tile of 16 holds
SHARE_MIN = 3000  # reads saved (tokens) from which a shared item pays for its merge,
FEW_SHARE = 16  # times as many where its rows would leave the small tile partly empty
_SCATTERED = -1 << 31  # in place of an offset between positions and slots: there is none
_MIN_RUN = 256  # positions with consecutive slots that are worth an item of their own


class PathNode(Protocol):
    """One radix node on a query's path, the same to all queries that share it; it starts where the
    one before it ends."""

    @property
    def end(self) -> int:
        """One past its last position."""
        ...


class Query(NamedTuple):
    """Rows [row, row + num_rows) of the step, at positions `position`, `position` + 1, ..."""

    row: int
    num_rows: int
    position: int
    slot_base: int  # slots[slot_base + p] is the slot of position p
    path: Sequence[PathNode] = ()
    slots: np.ndarray | None = None  # by position, on the host; None: runs are not looked for


class WorkList(NamedTuple):
    """What `attention` reads."""

    large_items: np.ndarray  # [num_large, ITEM_FIELDS] int32: those that need the large tile
    small_items: np.ndarray  # [num_small, ITEM_FIELDS] int32: at most SMALL_ROWS rows x heads
    item_rows: np.ndarray  # [num_entries] int32: query row of each row of each item
    item_parts: np.ndarray  # [num_entries] int32: partial result to write, -1 = the output itself
    row_parts: np.ndarray  # [num_rows, 2] int32: first partial result of each row, and how many
    num_parts: int  # partial results, over all rows

    @property
    def items(self) -> np.ndarray:
        """All items: [num_large + num_small, ITEM_FIELDS] int32."""
        return np.concatenate((self.large_items, self.small_items))


class _Range(NamedTuple):
    """Rows that attend to one run of positions, before splitting. Rows are in order of position."""

    rows: Sequence[int]
    is_chunk: bool  # one query's rows, at consecutive positions; if not, each row sees all of it
    first: int  # position of the lowest row
    last: int  # and of the highest
    slot_base: int
    start: int
    end: int
    offset: int = _SCATTERED  # the slot of position p is p + offset, if all are consecutive


class Ranges(NamedTuple):
    """What a step attends to, before it is cut to items."""

    ranges: list[_Range]
    group: int  # query heads per KV head

    @property
    def has_large(self) -> bool:
        """Are there rows for large tiles?"""
        return any(len(one.rows) * self.group > SMALL_ROWS for one in self.ranges)


def find_ranges(
    queries: Sequence[Query], *, group: int, room: int = 0, share_min: int | None = SHARE_MIN
) -> Ranges:
    """What the queries attend to, together and alone; the options are those of `plan_work`."""
    shared = {} if share_min is None else _shared_nodes(queries, group, share_min)
    ranges = _shared_ranges(queries, shared, group)
    for query in queries:
        ranges += _own_ranges(query, shared, group, room)
    return Ranges(ranges, group)


def plan_work(
    queries: Sequence[Query],
    *,
    num_rows: int,
    num_kv_heads: int,
    group: int,
    tile_rows: int,
    num_ctas: int,
    num_large_ctas: int | None = None,
    room: int = 0,
    window: int | None = None,
    split_len: int | None = None,
    share_min: int | None = SHARE_MIN,
) -> WorkList:
    """Turn a step's queries into items.

    `group` is query heads per KV head, `tile_rows` the rows x heads of the kernel's large tile,
    `num_ctas` and `num_large_ctas` (default: as many) the programs that work on small and on large
    items at a time, `room` the tokens each query may still grow by before the next plan.
    `split_len=None` chooses what ends soonest, for small and large items each; `share_min=None`
    shares nothing.
    """
    return cut_ranges(
        find_ranges(queries, group=group, room=room, share_min=share_min),
        num_rows=num_rows,
        num_kv_heads=num_kv_heads,
        tile_rows=tile_rows,
        num_ctas=num_ctas,
        num_large_ctas=num_large_ctas or num_ctas,
        window=window,
        split_len=split_len,
    )


def cut_ranges(
    found: Ranges,
    *,
    num_rows: int,
    num_kv_heads: int,
    tile_rows: int,
    num_ctas: int,
    num_large_ctas: int,
    window: int | None = None,
    split_len: int | None = None,
) -> WorkList:
    """Items of ranges; the options are those of `plan_work`."""
    tiles = _row_tiles(found, tile_rows, window)
    is_large = tiles.num_rows * found.group > SMALL_ROWS
    large, small = np.flatnonzero(is_large), np.flatnonzero(~is_large)
    slots = max(1, num_large_ctas // num_kv_heads), max(1, num_ctas // num_kv_heads)
    large_cut = _cut(tiles, large, split_len, slots[0], bound_by_reads=False)
    small_cut = _cut(tiles, small, split_len, slots[1], bound_by_reads=True)
    tile, kv_start, kv_end = map(np.concatenate, zip(large_cut, small_cut, strict=True))
    return _lists(tiles, tile, kv_start, kv_end, len(large_cut[0]), num_rows)


def _may_share(query: Query, group: int) -> bool:
    """Do the query's reads outweigh its maths?"""
    return query.num_rows * group <= SMALL_ROWS


def _shared_nodes(
    queries: Sequence[Query], group: int, share_min: int
) -> dict[PathNode, tuple[int, ...]]:
    """Node -> its queries (indices), for the nodes worth an item of their own."""
    members: defaultdict[PathNode, list[int]] = defaultdict(list)
    for index, query in enumerate(queries):
        if _may_share(query, group):
            for node in query.path:
                if node.end > query.position:  # it does not see all of it
                    break
                members[node].append(index)
    shared = {node: tuple(users) for node, users in members.items() if len(users) > 1}
    worth = {
        users
        for users, (start, end) in _bounds(queries, shared).items()
        if (end - start) * (len(users) - 1)
        >= share_min * (FEW_SHARE if len(users) * group <= SMALL_ROWS else 1)
    }
    return {node: users for node, users in shared.items() if users in worth}


def _bounds(
    queries: Sequence[Query], shared: dict[PathNode, tuple[int, ...]]
) -> dict[tuple[int, ...], tuple[int, int]]:
    """Users -> the positions that exactly they share. Deeper nodes have fewer users: one run."""
    bounds: dict[tuple[int, ...], tuple[int, int]] = {}
    for users in set(shared.values()):
        start = 0
        for node in queries[users[0]].path:
            if shared.get(node) == users:
                bounds[users] = (bounds.get(users, (start, 0))[0], node.end)
            start = node.end
    return bounds


def _shared_ranges(
    queries: Sequence[Query], shared: dict[PathNode, tuple[int, ...]], group: int
) -> list[_Range]:
    ranges: list[_Range] = []
    for users, (start, end) in sorted(_bounds(queries, shared).items()):
        placed = sorted(
            (queries[u].position + i, queries[u].row + i)
            for u in users
            for i in range(queries[u].num_rows)
        )
        rows = [row for _, row in placed]
        first, base = queries[users[0]], queries[users[0]].slot_base
        whole = _Range(rows, False, placed[0][0], placed[-1][0], base, start, end)
        ranges += _runs(whole, first.slots, group)
    return ranges


def _own_ranges(
    query: Query, shared: dict[PathNode, tuple[int, ...]], group: int, room: int
) -> list[_Range]:
    """The positions of one query that no shared item covers: gaps of its path, then its tail."""
    rows = range(query.row, query.row + query.num_rows)
    last = query.position + query.num_rows - 1
    if not shared:
        whole = _Range(rows, True, query.position, last, query.slot_base, 0, last + 1 + room)
        return _runs(whole, query.slots, group)
    gaps = [[0, 0]]
    for node in query.path if _may_share(query, group) else ():
        if node in shared and node.end <= query.position:
            gaps.append([node.end, node.end])
        else:
            gaps[-1][1] = node.end
    gaps[-1][1] = last + 1 + room
    return [
        run
        for low, high in gaps
        if high > low
        for run in _runs(
            _Range(rows, True, query.position, last, query.slot_base, low, high),
            query.slots,
            group,
        )
    ]


def _runs(entry: _Range, slots: np.ndarray | None, group: int) -> list[_Range]:
    """A range for large tiles, cut into long runs of consecutive slots and what is between them."""
    if slots is None or len(entry.rows) * group <= SMALL_ROWS:
        return [entry]
    breaks = entry.start + 1 + np.flatnonzero(np.diff(slots[entry.start : entry.end]) != 1)
    bounds = np.concatenate(([entry.start], breaks, [entry.end]))
    ranges = []
    at = entry.start
    for i in np.flatnonzero(np.diff(bounds) >= _MIN_RUN).tolist():
        start, end = int(bounds[i]), int(bounds[i + 1])
        if start > at:
            ranges.append(entry._replace(start=at, end=start))
        ranges.append(entry._replace(start=start, end=end, offset=int(slots[start]) - start))
        at = end
    if at < entry.end:
        ranges.append(entry._replace(start=at))
    return ranges


class _Tiles(NamedTuple):
    """Ranges cut to tiles: arrays of one number each, and the rows of all."""

    row_start: np.ndarray  # of `rows`
    num_rows: np.ndarray
    last: np.ndarray
    slot_base: np.ndarray
    start: np.ndarray
    end: np.ndarray
    offset: np.ndarray
    rows: np.ndarray


def _row_tiles(found: Ranges, tile_rows: int, window: int | None) -> _Tiles:
    """Cut each range's rows to what a tile holds, and its positions to what those rows can see."""
    ranges, group = found
    fields = np.array([one[1:] for one in ranges], np.int64).reshape(-1, len(_Range._fields) - 1).T
    range_rows = np.array([len(one.rows) for one in ranges], np.int64)
    rows = np.fromiter(chain.from_iterable(one.rows for one in ranges), np.int64, range_rows.sum())
    per_tile = np.where(range_rows * group <= SMALL_ROWS, SMALL_ROWS // group, tile_rows // group)
    count = -(-range_rows // per_tile)
    of = np.repeat(np.arange(len(ranges)), count)
    at = ramp(count) * per_tile[of]
    num_rows = np.minimum(per_tile[of], range_rows[of] - at)
    is_chunk, first, last, slot_base, start, end, offset = fields[:, of]
    is_part = (is_chunk > 0) & (num_rows < range_rows[of])
    last = np.where(is_part, first + at + num_rows - 1, last)
    first = np.where(is_part, first + at, first)
    end = np.where(is_part, np.minimum(end, last + 1), end)
    if window is not None:
        start = np.maximum(start, first - window + 1)
    row_start = (np.cumsum(range_rows) - range_rows)[of] + at
    seen = end > start
    return _Tiles(
        row_start[seen],
        num_rows[seen],
        last[seen],
        slot_base[seen],
        start[seen],
        end[seen],
        offset[seen],
        rows,
    )


def _cut(
    tiles: _Tiles, which: np.ndarray, split_len: int | None, num_slots: int, *, bound_by_reads: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split the positions of some tiles at multiples of `split_len`, and order the items so that
    all programs get the same: index of the tile, start and end of each item."""
    ranges = (
        tiles.start[which],
        tiles.end[which],
        np.minimum(tiles.end, tiles.last + 1)[which],
        tiles.num_rows[which],
    )
    if split_len is None:
        items = choose_cut(*ranges, num_slots, bound_by_reads=bound_by_reads)
    else:
        items = cut_at_multiples(*ranges, split_len)
    order = deal(items.cost, num_slots)
    return which[items.range[order]], items.start[order], items.end[order]


def _lists(
    tiles: _Tiles,
    tile: np.ndarray,
    kv_start: np.ndarray,
    kv_end: np.ndarray,
    num_large: int,
    num_rows: int,
) -> WorkList:
    """The list of the items (tile, start, end), their parts numbered."""
    items = np.zeros((len(tile), ITEM_FIELDS), np.int32)
    item_len = tiles.num_rows[tile]
    first_row = tiles.row_start[tile]
    items[:, 0] = np.cumsum(item_len) - item_len
    items[:, 1] = item_len
    items[:, 2] = tiles.rows[first_row]
    items[:, 3] = tiles.rows[first_row + item_len - 1]
    items[:, 4] = tiles.slot_base[tile]
    items[:, 5], items[:, 6] = kv_start, kv_end
    items[:, 7] = np.maximum(kv_start + tiles.offset[tile], -1)
    item_rows = tiles.rows[np.repeat(first_row, item_len) + ramp(item_len)].astype(np.int32)

    item_parts, row_parts = _number_parts(item_rows, np.repeat(kv_start, item_len), num_rows)
    num_parts = int(row_parts[row_parts[:, 1] > 1, 1].sum())
    large, small = items[:num_large], items[num_large:]
    return WorkList(large, small, item_rows, item_parts, row_parts, num_parts)


def _number_parts(
    item_rows: np.ndarray, kv_start: np.ndarray, num_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give each (item, row) its partial result: a row's lie side by side, by position."""
    count = np.bincount(item_rows, minlength=num_rows)
    first = np.cumsum(np.where(count > 1, count, 0))
    first -= np.where(count > 1, count, 0)
    order = np.lexsort((kv_start, item_rows))
    ordinal = np.empty(len(item_rows), np.int64)
    ordinal[order] = ramp(count)
    parts = np.where(count[item_rows] > 1, first[item_rows] + ordinal, -1)
    return parts.astype(np.int32), np.stack([first, count], 1).astype(np.int32)
