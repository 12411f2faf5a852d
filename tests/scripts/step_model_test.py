"""The sums of scripts/step_model.py, worked out by hand, and that the README holds what it writes."""
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"))
import step_model


def kernel(name, batch=64):
    return next(k for k in step_model.kernels(step_model.shapes(batch)) if k[0] == name)


class StepModel(unittest.TestCase):
    def test_shapes_are_the_engines(self):
        s = step_model.shapes(64)
        self.assertEqual((s["N"], s["C"], s["L"], s["V"], s["W"], s["R"]), (65536, 768, 12, 50257, 50304, 16384))
        self.assertEqual(s["parameters"], 124439808)
        self.assertEqual(step_model.shapes(4)["R"], 4096)

    def test_layernorms(self):
        # x, branch, sum and out of 65,536 x 768 in two bytes, mean and rstd in four.
        _, _, calls, moved, flops = kernel("residual_layernorm_forward")
        self.assertEqual((calls, moved, flops), (24, 8 * 50331648 + 8 * 65536, 0))
        self.assertAlmostEqual(step_model.floor(kernel("residual_layernorm_forward")), 24 * 403177472 / 3.35e12)
        self.assertAlmostEqual(step_model.seconds(kernel("residual_layernorm_forward"), step_model.EXPECTED),
                               24 * 403177472 / 2.2e12)

    def test_heads_products(self):
        _, _, calls, moved, flops = kernel("matmul_backward_weight/head")
        self.assertEqual((calls, flops), (4, 2 * 16384 * 768 * 50304))
        self.assertEqual(moved, 2 * (16384 * 768 + 16384 * 50304) + 8 * 768 * 50304)
        # All products: 3 of 2 flops for each of 84,934,656 weights in the blocks and 50,304 x 768 of the head.
        all_flops = 6 * 65536 * (84934656 + 50304 * 768)
        self.assertEqual(step_model.product_flops(step_model.shapes(64)), all_flops)
        rate = step_model.EXPECTED["product"][1]
        self.assertAlmostEqual(all_flops / rate, 0.63 * 140e-3)

    def test_attention(self):
        # 64 rows of 12 heads of 524,800 pairs, each 2 products of 64 channels forward.
        self.assertEqual(kernel("attention_forward")[4], 64 * 12 * 524800 * 2 * 2 * 64)
        self.assertEqual(kernel("attention_backward")[4], 64 * 12 * 524800 * 7 * 2 * 64)
        # FlashAttention-2: 2 products at 229 and 5 at this rate are 7 at 192.
        self.assertAlmostEqual(2 / 229e12 + 5 / step_model.ATTENTION_BACKWARD, 7 / 192e12)

    def test_a_step_is_the_sum(self):
        for rate in (None, step_model.EXPECTED):
            one_by_one = sum(step_model.seconds(k, rate) if rate else step_model.floor(k)
                             for k in step_model.kernels(step_model.shapes(16)))
            self.assertEqual(step_model.step_seconds(16, rate), one_by_one)

    def test_measurements_stand_beside_it(self):
        with tempfile.TemporaryDirectory() as folder:
            card = pathlib.Path(folder) / "some-card"
            card.mkdir()
            context = {"model": "gpt2", "dtype": "bfloat16", "batch": "64", "length": "1024"}
            (card / "kernels.json").write_text(json.dumps({"context": context, "benchmarks": [
                {"name": "residual_layernorm_forward/cold", "real_time": 250000, "time_unit": "ns"},
                {"name": "adamw/warm", "real_time": 1, "time_unit": "ns"}]}))
            (card / "train.json").write_text(json.dumps({"context": {}, "benchmarks": [
                {"name": "train/gpt2/batch:64/length:1024", "real_time": 131.072, "time_unit": "ms"}]}))
            found = step_model.measured(pathlib.Path(folder))
        self.assertEqual(list(found), [("some-card", 64)])
        self.assertAlmostEqual(found["some-card", 64]["residual_layernorm_forward"], 250e-6)
        self.assertNotIn("adamw", found["some-card", 64])
        text = step_model.text(found)
        self.assertIn("some-card, µs |", text)
        self.assertRegex(text, r"`residual_layernorm_forward` \|.*\| 6,000 \|")
        self.assertIn("measured: some-card, B = 64 | 500k", text)
        self.assertNotIn("Nothing below was measured", text)
        self.assertIn("Nothing below was measured", step_model.text({}))

    def test_the_readme_holds_it(self):
        model = step_model.text(step_model.measured(step_model.ROOT / "bench" / "results"))
        holds = step_model.BEGIN + model + step_model.END in step_model.README.read_text()
        self.assertTrue(holds, "scripts/step_model.py write")


if __name__ == "__main__":
    unittest.main()
