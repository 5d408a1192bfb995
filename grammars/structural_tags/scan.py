"""Which of some texts end where, in one pass over another text."""

from collections.abc import Sequence


class Automaton:
    """Aho and Corasick's: which of some texts end here, whatever came before."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.parents: list[tuple[int, int]] = [(0, 0)]  # (node, byte)
        own: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            node = 0
            for byte in text:
                child = self.children[node].get(byte)
                if child is None:
                    child = self.children[node][byte] = len(self.children)
                    self.children.append({})
                    self.parents.append((node, byte))
                node = child
            own.setdefault(node, []).append(index)
        self._fail = [0] * len(self.children)
        self._next: list[dict[int, int]] = [{} for _ in self.children]
        self.found: list[tuple[int, ...]] = [()] * len(self.children)  # texts, longest first
        todo = [0]
        for node in todo:  # breadth first
            if node:
                above, byte = self.parents[node]
                self._fail[node] = self.step(self._fail[above], byte) if above else 0
            self.found[node] = (*own.get(node, ()), *(self.found[self._fail[node]] if node else ()))
            todo += self.children[node].values()

    def step(self, node: int, byte: int) -> int:
        """The longest beginning of a text that what was read now ends in."""
        row = self._next[node]
        target = row.get(byte)
        if target is None:
            at = node
            while at and byte not in self.children[at]:
                at = self._fail[at]
            target = row[byte] = self.children[at].get(byte, 0)
        return target

    def suffixes(self, node: int) -> list[int]:
        """The beginnings of texts that what was read ends in, but for the empty one."""
        out: list[int] = []
        while node:
            out.append(node)
            node = self._fail[node]
        return out

    def text(self, node: int) -> bytes:
        """What was read, as far as it matters."""
        out = bytearray()
        while node:
            node, byte = self.parents[node]
            out.append(byte)
        return bytes(reversed(out))
