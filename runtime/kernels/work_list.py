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

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

# row_start, num_rows, first_row, last_row, slot_base, kv_start, kv_end, and the slot of kv_start
# where all slots of a large item are consecutive, else -1
ITEM_FIELDS = 8
SMALL_ROWS = 16  # rows x heads of a group that one tensor-core tile of 16 holds
SHARE_MIN = 3000  # reads saved (tokens) from which a shared item pays for its merge,
FEW_SHARE = 16  # times as many where its rows would leave the small tile partly empty
_SPLITS = tuple(128 << i for i in range(10))
_SETUP = 128  # positions that take as long as beginning an item,
_PART = 8  # and as writing and adding up one row of partial results
_MIN_RUN = 256  # positions with consecutive slots that are worth an item of their own


class PathNode(NamedTuple):
    """One radix node on a query's path; it starts where the one before it ends."""

    node: Hashable  # equal for all queries that share it
    end: int  # one past its last position


class Query(NamedTuple):
    """Rows [row, row + num_rows) of the step, at positions `position`, `position` + 1, ..."""

    row: int
    num_rows: int
    position: int
    slot_base: int  # slots[slot_base + p] is the slot of position p
    path: tuple[PathNode, ...] = ()
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
    offset: int | None = None  # the slot of position p is p + offset, if all are consecutive


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
    shared = {} if share_min is None else _shared_nodes(queries, group, share_min)
    ranges = _shared_ranges(queries, shared, group)
    for query in queries:
        ranges += _own_ranges(query, shared, group, room)
    tiles = [tile for entry in ranges for tile in _row_tiles(entry, group, tile_rows, window)]
    large = [tile for tile in tiles if len(tile.rows) * group > SMALL_ROWS]
    small = [tile for tile in tiles if len(tile.rows) * group <= SMALL_ROWS]
    cut = [
        _cut(some, split_len, max(1, ctas // num_kv_heads))
        for some, ctas in ((large, num_large_ctas or num_ctas), (small, num_ctas))
    ]
    index, kv_start, kv_end = (np.concatenate(arrays) for arrays in zip(*cut, strict=True))
    index[len(cut[0][0]) :] += len(large)
    return _lists(large + small, index, kv_start, kv_end, len(cut[0][0]), num_rows)


def choose_split(start: np.ndarray, end: np.ndarray, num_rows: int, num_slots: int) -> int:
    """The split length by which ranges [start, end) of `num_rows` rows are done soonest,
    `num_slots` at a time.

    Every item costs something beside its positions, and so do its partial results: fewer splits
    mean less of both; fewer items than programs leave some without work.
    """
    longest = int((end - start).max(initial=0))
    fixed = _SETUP + _PART * num_rows
    costs = {}
    for length in _SPLITS:
        parts = -(-end // length) - start // length
        count = int(parts.sum())
        rounds = -(-count // num_slots)
        mean = fixed + (end - start).sum() / max(1, count)
        most_parts = int(parts.max(initial=0))
        costs[length] = max(fixed + min(length, longest), rounds * mean) + _PART * most_parts
        if length >= end.max(initial=0):
            break
    return min(costs, key=lambda length: (costs[length], -length))


def _joins(query: Query, entry: PathNode, group: int) -> bool:
    """Whether a query may share this node: it sees all of it, and its reads outweigh its maths."""
    return query.num_rows * group <= SMALL_ROWS and entry.end <= query.position


def _shared_nodes(
    queries: Sequence[Query], group: int, share_min: int
) -> dict[Hashable, tuple[int, ...]]:
    """Node -> its queries (indices), for the nodes worth an item of their own."""
    members: dict[Hashable, list[int]] = {}
    for index, query in enumerate(queries):
        for entry in query.path:
            if _joins(query, entry, group):
                members.setdefault(entry.node, []).append(index)
    shared = {node: tuple(users) for node, users in members.items() if len(users) > 1}
    worth = {
        users
        for users, (start, end) in _bounds(queries, shared).items()
        if (end - start) * (len(users) - 1)
        >= share_min * (FEW_SHARE if len(users) * group <= SMALL_ROWS else 1)
    }
    return {node: users for node, users in shared.items() if users in worth}


def _bounds(
    queries: Sequence[Query], shared: dict[Hashable, tuple[int, ...]]
) -> dict[tuple[int, ...], tuple[int, int]]:
    """Users -> the positions that exactly they share. Deeper nodes have fewer users: one run."""
    bounds: dict[tuple[int, ...], tuple[int, int]] = {}
    for users in set(shared.values()):
        start = 0
        for entry in queries[users[0]].path:
            if shared.get(entry.node) == users:
                bounds[users] = (bounds.get(users, (start, 0))[0], entry.end)
            start = entry.end
    return bounds


def _shared_ranges(
    queries: Sequence[Query], shared: dict[Hashable, tuple[int, ...]], group: int
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
    query: Query, shared: dict[Hashable, tuple[int, ...]], group: int, room: int
) -> list[_Range]:
    """The positions of one query that no shared item covers: gaps of its path, then its tail."""
    gaps = [[0, 0]]
    for entry in query.path:
        if entry.node in shared and _joins(query, entry, group):
            gaps.append([entry.end, entry.end])
        else:
            gaps[-1][1] = entry.end
    gaps[-1][1] = query.position + query.num_rows + room
    rows = range(query.row, query.row + query.num_rows)
    last = query.position + query.num_rows - 1
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


def _row_tiles(entry: _Range, group: int, tile_rows: int, window: int | None) -> list[_Range]:
    """Cut a range's rows to what a tile holds, and its positions to what those rows can see."""
    per_tile = (SMALL_ROWS if len(entry.rows) * group <= SMALL_ROWS else tile_rows) // group
    tiles = []
    for at in range(0, len(entry.rows), per_tile):
        rows = entry.rows[at : at + per_tile]
        first, last, end = entry.first, entry.last, entry.end
        if entry.is_chunk and len(rows) < len(entry.rows):
            first, last = entry.first + at, entry.first + at + len(rows) - 1
            end = min(end, last + 1)
        start = entry.start if window is None else max(entry.start, first - window + 1)
        if end > start:
            tiles.append(entry._replace(rows=rows, first=first, last=last, start=start, end=end))
    return tiles


def _cut(
    tiles: list[_Range], split_len: int | None, per_round: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split each tile's positions at multiples of `split_len` and order by cost: index of the tile,
    start and end of each item.

    A program takes one item of each round of `per_round` items: the costs of every other round run
    upwards, so that all programs get the same.
    """
    start = np.array([t.start for t in tiles], np.int64)
    end = np.array([t.end for t in tiles], np.int64)
    last = np.array([t.last for t in tiles], np.int64)
    if split_len is None:
        most_rows = max((len(t.rows) for t in tiles), default=0)
        split_len = choose_split(start, np.minimum(end, last + 1), most_rows, per_round)
    first_split = start // split_len
    count = -(-end // split_len) - first_split
    tile = np.repeat(np.arange(len(tiles)), count)
    step = np.arange(len(tile)) - np.repeat(np.cumsum(count) - count, count)
    kv_start = np.maximum(start[tile], (first_split[tile] + step) * split_len)
    kv_end = np.minimum(end[tile], (first_split[tile] + step + 1) * split_len)
    live = np.minimum(kv_end, last[tile] + 1) - kv_start
    order = np.argsort(-live, kind="stable")
    for start_of_round in range(per_round, len(order), 2 * per_round):
        end_of_round = start_of_round + per_round
        order[start_of_round:end_of_round] = order[start_of_round:end_of_round][::-1].copy()
    return tile[order], kv_start[order], kv_end[order]


def _lists(
    tiles: list[_Range],
    index: np.ndarray,
    kv_start: np.ndarray,
    kv_end: np.ndarray,
    num_large: int,
    num_rows: int,
) -> WorkList:
    """The list of the items (tile, start, end), their parts numbered."""
    items = np.zeros((len(index), ITEM_FIELDS), np.int32)
    items[:, 1] = np.array([len(t.rows) for t in tiles], np.int64)[index]
    items[:, 0] = np.cumsum(items[:, 1]) - items[:, 1]
    items[:, 2] = np.array([t.rows[0] for t in tiles], np.int64)[index]
    items[:, 3] = np.array([t.rows[-1] for t in tiles], np.int64)[index]
    items[:, 4] = np.array([t.slot_base for t in tiles], np.int64)[index]
    items[:, 5], items[:, 6] = kv_start, kv_end
    offset = np.array([-1 << 31 if t.offset is None else t.offset for t in tiles], np.int64)[index]
    items[:, 7] = np.maximum(kv_start + offset, -1)
    tile_rows = [np.asarray(t.rows, np.int32) for t in tiles]
    item_rows = (
        np.concatenate([tile_rows[t] for t in index]) if len(index) else np.zeros(0, np.int32)
    )

    item_parts, row_parts = _number_parts(item_rows, np.repeat(kv_start, items[:, 1]), num_rows)
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
    ordinal[order] = np.arange(len(item_rows)) - np.repeat(np.cumsum(count) - count, count)
    parts = np.where(count[item_rows] > 1, first[item_rows] + ordinal, -1)
    return parts.astype(np.int32), np.stack([first, count], 1).astype(np.int32)
