"""The benchmark shapes are made of the published models' layers, part by part."""

from araio.config import ModelConfig
from araio.costs.parameters import count_parameters
from araio.testing.shapes import R1_SLICE_VOCABULARY, SHAPES, lite, r1_slice
from araio.weights.locate import locate_config


def sizes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Total and active parameters of each part."""
    return {name: (part.total, part.active) for name, part in count_parameters(config).parts.items()}


def test_lite_is_the_published_model() -> None:
    assert lite() == locate_config("deepseek-v2-lite")
    assert count_parameters(lite()).model.total == 15_706_484_224


def test_each_layer_of_the_slice_has_the_size_it_has_in_r1() -> None:
    whole, cut = locate_config("deepseek-r1"), r1_slice()
    per_layer, of_slice = sizes(whole), sizes(cut)
    layers = {"attention": (61, 3), "dense_ffn": (3, 1)}
    layers |= dict.fromkeys(("routed_experts", "shared_experts", "gates", "gate_bias"), (58, 2))
    for part, (in_r1, in_slice) in layers.items():
        assert [size / in_r1 for size in per_layer[part]] == [size / in_slice for size in of_slice[part]]
    assert whole.routed_scaling_factor == cut.routed_scaling_factor
    assert whole.quantization_config == cut.quantization_config


def test_the_slice_has_a_small_vocabulary_and_no_prediction_module() -> None:
    counted = count_parameters(r1_slice())
    assert counted.head.total == counted.embedding.total == R1_SLICE_VOCABULARY * 7168
    assert counted.mtp.total == 0


def test_a_shape_survives_its_config_file() -> None:
    for shape in SHAPES.values():
        assert ModelConfig.from_dict(shape().to_dict()) == shape()
