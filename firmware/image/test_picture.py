"""Whether a text is read from a picture of a console, and no text with the letters otherwise. The font is made up."""

import hashlib
import unittest

from picture import HEIGHT, WIDTH, Picture

COLUMNS, ROWS = 44, 6
TEXT = ["Box    palabre-0001", "", "Claim code    AB12-CD34   (une fois : l'été)"]


def drawn(lines):
    """A picture of a console that shows them from its second row on."""
    picture = Picture.__new__(Picture)
    picture.width, picture.height = COLUMNS * WIDTH + 3, ROWS * HEIGHT + 5
    pixels = bytearray(3 * picture.width * picture.height)
    for row, line in enumerate(lines, 1):
        for column, letter in enumerate(line):
            bits = hashlib.sha512(letter.encode()).digest() * 6
            for y in range(HEIGHT if letter != " " else 0):
                at = 3 * ((row * HEIGHT + y) * picture.width + column * WIDTH)
                pixels[at:at + 3 * WIDTH] = bits[3 * WIDTH * y:3 * WIDTH * (y + 1)]
    picture.pixels = bytes(pixels)
    return picture


class Reads(unittest.TestCase):
    def test_what_is_there(self):
        self.assertTrue(drawn(TEXT).reads("\n".join(TEXT)))
        self.assertTrue(drawn(TEXT).reads(TEXT[2]))

    def test_nothing_else(self):
        for wrong in [TEXT[:2] + [TEXT[2].replace("12", "21")], TEXT[:2] + [TEXT[2].replace("CD34", "CD33")], TEXT[:2] + [TEXT[2][:-1]],
                      [TEXT[0], "x", TEXT[2]], [TEXT[0], TEXT[2]], TEXT[::-1], [TEXT[0] + "1"] + TEXT[1:], ["x" * (COLUMNS + 1)]]:
            self.assertFalse(drawn(TEXT).reads("\n".join(wrong)), wrong)

    def test_a_space_is_empty(self):
        picture = drawn([line.replace(" ", "_") for line in TEXT])
        self.assertFalse(picture.reads("Box"))
        self.assertFalse(picture.reads("\n".join(TEXT)))
        self.assertFalse(drawn([line.ljust(COLUMNS).replace(" ", "_") for line in ["", *TEXT, "", ""]][1:]).reads(TEXT[0]))

    def test_the_limit_a_letter_that_is_there_once_may_be_another(self):
        self.assertTrue(drawn(TEXT).reads(TEXT[2].replace("D", "X")))
        self.assertFalse(drawn(TEXT).reads("\n".join(TEXT).replace("D", "x")))

    def test_an_empty_screen_shows_no_text(self):
        self.assertFalse(drawn([]).reads("Palabre"))


if __name__ == "__main__":
    unittest.main()
