"""Every registered network in a line, stored: building them all to count takes twenty seconds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Summary(NamedTuple):
    """The size of a network, and the settings that the paper gives it.

    Attributes:
        parameters: with a classifier for 1000 classes.
        multiply_adds: for one image of the test size.
        train_size: side of a training image, pixels.
        test_size: side of a test image, pixels.
        drop_rate: of dropout before the classifier.
        randaugment_magnitude: in the paper's recipe; 0 where it has none.
    """

    parameters: int
    multiply_adds: int
    train_size: int
    test_size: int
    drop_rate: float
    randaugment_magnitude: int


#: Name → summary, in the order of :func:`normfree.list_models`; a test counts all of them again.
SUMMARIES: Mapping[str, Summary] = MappingProxyType(
    {
        "nfnet_f0": Summary(71_489_284, 12_384_198_656, 192, 256, 0.2, 5),
        "nfnet_f1": Summary(132_634_256, 35_538_968_576, 224, 320, 0.3, 10),
        "nfnet_f2": Summary(193_779_228, 62_592_978_944, 256, 352, 0.4, 10),
        "nfnet_f3": Summary(254_924_200, 114_763_501_568, 320, 416, 0.4, 15),
        "nfnet_f4": Summary(316_069_172, 215_241_187_328, 384, 512, 0.5, 15),
        "nfnet_f5": Summary(377_214_144, 289_757_106_176, 416, 544, 0.5, 15),
        "nfnet_f6": Summary(438_359_116, 377_280_307_200, 448, 576, 0.5, 15),
        "nfnet_f7": Summary(499_504_088, 478_781_640_704, 480, 608, 0.5, 15),
        "nfnet_f0_plus": Summary(118_824_516, 19_520_208_896, 192, 256, 0.2, 5),
        "nfnet_f1_plus": Summary(220_357_008, 55_445_012_480, 224, 320, 0.3, 10),
        "nfnet_f2_plus": Summary(321_889_500, 97_275_441_152, 256, 352, 0.4, 10),
        "nfnet_f3_plus": Summary(423_421_992, 177_986_514_944, 320, 416, 0.4, 15),
        "nfnet_f4_plus": Summary(524_954_484, 333_389_742_080, 384, 512, 0.5, 15),
        "nfnet_f5_plus": Summary(626_486_976, 448_426_520_576, 416, 544, 0.5, 15),
        "nfnet_f6_plus": Summary(728_019_468, 583_517_274_112, 448, 576, 0.5, 15),
        "nfnet_f7_plus": Summary(829_551_960, 740_157_796_352, 480, 608, 0.5, 15),
        "nfnet_pico": Summary(356_917, 1_566_720, 8, 8, 0.1, 5),
        "nfnet_nano": Summary(788_078, 10_309_312, 28, 28, 0.1, 5),
        "nfnet_micro": Summary(2_673_153, 46_997_504, 64, 64, 0.1, 5),
        "nfnet_l0": Summary(35_074_500, 7_025_301_504, 224, 288, 0.2, 0),
        "eca_nfnet_l0": Summary(24_143_936, 7_014_465_280, 224, 288, 0.2, 0),
        "eca_nfnet_l1": Summary(41_407_752, 14_730_391_040, 256, 320, 0.2, 0),
        "eca_nfnet_l2": Summary(56_722_384, 29_781_742_848, 320, 384, 0.2, 0),
        "bn_nfnet_f0": Summary(71_478_520, 12_384_198_656, 192, 256, 0.2, 5),
        "bn_nfnet_f1": Summary(132_623_480, 35_538_968_576, 224, 320, 0.3, 10),
        "bn_nfnet_f2": Summary(193_768_440, 62_592_978_944, 256, 352, 0.4, 10),
        "bn_nfnet_f3": Summary(254_913_400, 114_763_501_568, 320, 416, 0.4, 15),
        "bn_nfnet_f4": Summary(316_058_360, 215_241_187_328, 384, 512, 0.5, 15),
        "bn_nfnet_f5": Summary(377_203_320, 289_757_106_176, 416, 544, 0.5, 15),
        "bn_nfnet_f6": Summary(438_348_280, 377_280_307_200, 448, 576, 0.5, 15),
        "bn_nfnet_f7": Summary(499_493_240, 478_781_640_704, 480, 608, 0.5, 15),
        "nf_resnet50": Summary(25_557_048, 4_089_184_256, 224, 224, 0.0, 0),
        "nf_resnet101": Summary(44_549_193, 7_801_405_440, 224, 224, 0.0, 0),
        "nf_resnet152": Summary(60_192_858, 11_513_626_624, 224, 224, 0.0, 0),
        "nf_resnet200": Summary(64_673_898, 15_007_481_856, 224, 224, 0.0, 0),
        "nf_resnet288": Summary(146_460_552, 21_558_460_416, 224, 224, 0.0, 0),
        "nf_resnet600": Summary(300_646_896, 44_268_519_424, 224, 224, 0.0, 0),
        "bn_resnet50": Summary(25_549_352, 4_089_184_256, 224, 224, 0.0, 0),
        "bn_resnet101": Summary(44_541_480, 7_801_405_440, 224, 224, 0.0, 0),
        "bn_resnet152": Summary(60_185_128, 11_513_626_624, 224, 224, 0.0, 0),
        "bn_resnet200": Summary(64_666_152, 15_007_481_856, 224, 224, 0.0, 0),
        "nf_regnet_b0": Summary(8_595_372, 443_672_488, 192, 224, 0.2, 0),
        "nf_regnet_b1": Summary(10_019_208, 733_522_624, 224, 256, 0.2, 0),
        "nf_regnet_b2": Summary(13_785_904, 1_145_075_772, 240, 272, 0.3, 0),
        "nf_regnet_b3": Summary(18_136_667, 1_999_206_624, 288, 320, 0.3, 0),
        "nf_regnet_b4": Summary(29_315_830, 4_467_269_888, 320, 384, 0.4, 0),
        "nf_regnet_b5": Summary(48_707_138, 11_097_831_488, 384, 456, 0.4, 0),
        "nf_regnet_b6": Summary(70_045_805, 20_136_927_784, 448, 528, 0.5, 0),
        "nf_regnet_b7": Summary(101_743_204, 38_161_054_592, 512, 600, 0.5, 0),
        "nf_regnet_b8": Summary(142_314_441, 63_719_342_484, 600, 672, 0.5, 0),
    }
)
