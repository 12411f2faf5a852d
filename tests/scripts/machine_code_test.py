"""The loads that scripts/machine_code.py finds in flight, on machine code as cuobjdump prints it."""
import pathlib
import sys
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent / "scripts"))
import machine_code  # noqa: E402


class LoadsInFlight(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        lines = (FOLDER / "loads.sass").read_text().splitlines()
        cls.instructions = machine_code.parse(lines)
        cls.kernels = machine_code.kernels_of(lines)

    def counts(self, name):
        return self.kernels[name]["loads16"], self.kernels[name]["loads"]

    def test_kernels_and_their_opcodes_are_counted(self):
        self.assertEqual(list(self.kernels), ["one_after_the_other", "together", "for_the_next_turn", "pointers"])
        self.assertEqual(self.kernels["one_after_the_other"]["opcodes"]["LDG.E.128"], 2)
        self.assertEqual(self.kernels["one_after_the_other"]["opcodes"]["BRA"], 2)

    def test_a_load_whose_result_is_read_at_once_is_alone(self):
        # The three before the loop are not what it does all the time.
        self.assertEqual(self.counts("one_after_the_other"), (1, 1))

    def test_any_register_of_a_load_counts_as_its_result(self):
        load, add = self.instructions["one_after_the_other"][8:10]
        self.assertEqual(machine_code.most_loads([load, add, load], machine_code.GLOBAL_LOAD), 1)

    def test_a_register_that_was_written_since_is_not_the_loads(self):
        instructions = machine_code.parse(["Function : f", "/*0000*/ LDG.E R4, [R2.64] ;", "/*0010*/ LDS R4, [R22] ;",
                                           "/*0020*/ FADD R0, R0, R4 ;", "/*0030*/ LDG.E R5, [R2.64+0x4] ;"])["f"]
        self.assertEqual(machine_code.most_loads(instructions, machine_code.GLOBAL_LOAD), 2)

    def test_the_innermost_loop_decides(self):
        # R24 and, in the next turn, R12 are on their way when R14 is read. R4 comes from shared memory.
        self.assertEqual(self.counts("together"), (2, 2))
        begin, end = 1, 7  # without the loop: three of 16 bytes, as R20 is not a load's
        instructions = self.instructions["together"][:end]
        self.assertEqual(machine_code.most_loads(instructions[begin:], machine_code.GLOBAL_LOAD_16), 3)
        self.assertEqual(machine_code.most_loads(instructions, machine_code.GLOBAL_LOAD), 4)

    def test_loads_at_the_end_of_a_loop_are_for_its_next_turn(self):
        self.assertEqual(self.counts("for_the_next_turn"), (2, 2))

    def test_an_address_that_is_loaded_is_waited_for(self):
        self.assertEqual(self.counts("pointers"), (2, 2))

    def test_registers_read_and_written(self):
        def registers(text):
            opcode, _, operands = text.partition(" ")
            return machine_code.Instruction(0, opcode, operands).registers()

        self.assertEqual(registers("SHFL.BFLY PT, R20, R21, 0x10, 0x1f"), (20, {21}))
        self.assertEqual(registers("ISETP.GE.AND P0, PT, R9, UR6, PT"), (None, {9}))
        self.assertEqual(registers("STG.E.128 [R2.64], R8"), (None, {2, 8}))
        self.assertEqual(registers("FFMA R3, R3.reuse, R4, R5"), (3, {3, 4, 5}))
        self.assertEqual(registers("LDG.E.128 R4, desc[UR4][R2.64+0x10]"), (4, {2}))
        self.assertEqual(registers("R2UR UR4, R7"), (None, {7}))
        self.assertEqual(registers("HADD2.F32 R6, -RZ, R7.H0_H0"), (6, {7}))


if __name__ == "__main__":
    unittest.main()
