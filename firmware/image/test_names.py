"""Whether every name that a function of these programs uses is there: a scenario is seen to lack one after an hour only."""

import builtins
import dis
import importlib
import pathlib
import types
import unittest


def functions(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from functions(constant)


def missing(code, there):
    """The global names that are used in `code` and in what it defines, and are not `there`."""
    return {step.argval for of in functions(code) for step in dis.get_instructions(of)
            if step.opname == "LOAD_GLOBAL" and step.argval not in there and not hasattr(builtins, step.argval)}


class Names(unittest.TestCase):
    def test_all_are_there(self):
        files = sorted(pathlib.Path(__file__).parent.glob("*.py"))
        self.assertGreater(len(files), 10)
        for file in files:
            there = vars(importlib.import_module(file.stem))
            self.assertEqual(missing(compile(file.read_bytes(), file, "exec"), there), set(), file.name)

    def test_one_that_is_not_is_found(self):
        code = compile("def outer():\n return len([(lambda: gone + here)() for _ in range(1)])", "made up", "exec")
        self.assertEqual(missing(code, {"here"}), {"gone"})


if __name__ == "__main__":
    unittest.main()
