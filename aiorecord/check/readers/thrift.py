"""The part of Thrift's compact protocol that Parquet's metadata needs, as plain Python values.

Source: "Thrift Compact protocol encoding" (Apache Thrift, doc/specs/thrift-compact-protocol.md). A struct is
a dict from field number to ``(type, value)``, a list is ``(type of its elements, values)``.
"""

from __future__ import annotations

from typing import Any

Struct = dict[int, tuple[int, Any]]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

_MAX_DEPTH = 16
_MAX_ELEMENTS = 1 << 20


class ThriftError(ValueError):
    """The bytes are not a valid struct, or end too early."""


class Reader:
    """Reads structs from bytes.

    Args:
        data: the bytes.
        position: where to begin; afterwards, the end of the bytes read.
    """

    def __init__(self, data: bytes | memoryview, position: int = 0) -> None:
        self._data = memoryview(data)
        self.position = position

    def struct(self, depth: int = 0) -> Struct:
        """The struct at the position.

        Raises:
            ThriftError: there is none.
        """
        if depth > _MAX_DEPTH:
            raise ThriftError("nested too deeply")
        fields: Struct = {}
        number = 0
        while (head := self._byte()) != 0:
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = (kind, self._value(kind, depth))
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind == BYTE:
            return self._byte()
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == DOUBLE:
            return self._bytes(8)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind in (LIST, SET):
            head = self._byte()
            count, element = head >> 4, head & 15
            if count == 15:
                count = self._varint()
            if count > _MAX_ELEMENTS:
                raise ThriftError(f"a list of {count} elements")
            # In a list, a bool is a byte of its own.
            values = [
                self._byte() == TRUE if element in (TRUE, FALSE) else self._value(element, depth + 1)
                for _ in range(count)
            ]
            return element, values
        if kind == STRUCT:
            return self.struct(depth + 1)
        raise ThriftError(f"type {kind}")

    def _byte(self) -> int:
        if self.position >= len(self._data):
            raise ThriftError("it ends too early")
        self.position += 1
        return self._data[self.position - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self.position:
            raise ThriftError("it ends too early")
        self.position += count
        return bytes(self._data[self.position - count : self.position])

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError("a number without end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def encode(struct: Struct) -> bytes:
    """A struct as bytes."""
    out = bytearray()
    last = 0
    for number, (kind, value) in sorted(struct.items()):
        if kind in (TRUE, FALSE):
            kind = TRUE if value else FALSE
        if 0 < number - last <= 15:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            out += _zigzag(number)
        last = number
        if kind not in (TRUE, FALSE):
            out += _encode(kind, value)
    out.append(0)
    return bytes(out)


def _encode(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return bytes([TRUE if value else FALSE])
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return _zigzag(value)
    if kind == DOUBLE:
        return bytes(value)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return encode(value)
    element, values = value
    head = bytes([len(values) << 4 | element]) if len(values) < 15 else bytes([240 | element])
    if len(values) >= 15:
        head += _varint(len(values))
    return head + b"".join(_encode(element, item) for item in values)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> bytes:
    return _varint((value << 1) ^ (value >> 63))
