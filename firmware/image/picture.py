"""The screen of an emulated box: its colours, and the text of a console on it."""

import collections
import os
import struct
import zlib

from box import Failed, seen

# Of a letter of the console of a kernel that nobody gave another font, in pixels.
WIDTH, HEIGHT = 8, 16


class Picture:
    """A picture of the box's screen, from the emulator."""

    def __init__(self, box):
        path = os.path.join(box.folder, "screen.ppm")
        box.qmp("screendump", filename=seen(path))
        with open(path, "rb") as file:
            if file.readline() != b"P6\n":
                raise Failed("the emulator's picture of the screen is no PPM")
            self.width, self.height = map(int, file.readline().split())
            file.readline()
            self.pixels = file.read()
        os.remove(path)
        # Pixels of each colour.
        self.colours = collections.Counter(zip(*(self.pixels[part::3] for part in range(3))))

    def keep(self, path):
        """As PNG."""
        rows = b"".join(b"\0" + self.pixels[at:at + 3 * self.width] for at in range(0, len(self.pixels), 3 * self.width))
        with open(path, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
            for kind, content in [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]:
                file.write(struct.pack(">I", len(content)) + kind + content)
                file.write(struct.pack(">I", zlib.crc32(kind + content)))

    def cells(self, row):
        """What is in each place of a row of the console, as bytes."""
        lines = [self.pixels[3 * self.width * y:3 * self.width * (y + 1)] for y in range(row * HEIGHT, (row + 1) * HEIGHT)]
        return [b"".join(line[3 * x:3 * (x + WIDTH)] for line in lines) for x in range(0, self.width - WIDTH + 1, WIDTH)]

    def reads(self, text):
        """Whether the console shows these lines, one below the other. Nobody needs to know the font: each letter looks the same wherever
        it is, no two look alike, and a space and what is behind the end of a line is empty. So of a letter that is there but once no more
        is known than that it is none of the others."""
        wanted = text.splitlines()
        rows = [self.cells(row) for row in range(self.height // HEIGHT)]
        return any(is_text(rows[top:top + len(wanted)], wanted) for top in range(len(rows) - len(wanted) + 1))


def is_text(rows, lines):
    looks = {}
    for cells, line in zip(rows, lines):
        if len(line) > len(cells):
            return False
        for cell, letter in zip(cells, line.ljust(len(cells))):
            if looks.setdefault(letter, cell) != cell:
                return False
    empty = looks.get(" ", b"")
    return len(set(looks.values())) == len(looks) and empty == empty[:3] * (len(empty) // 3)
