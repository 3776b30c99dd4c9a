from __future__ import annotations

import pytest

from tasks.common.errors import unknown_name


@pytest.mark.parametrize(
    ("written", "known", "meant"),
    [
        ("imagenet1k_v1", ["IMAGENET1K_V1", "DEFAULT"], "IMAGENET1K_V1"),
        ("IMAGENET1K-V3", ["IMAGENET1K_V1", "COCO"], "IMAGENET1K_V1"),
        ("vit_b_16", ["RN50", "ViT-B-16"], "ViT-B-16"),
        ("Clip-Disect", ["clip_dissect", "dnd"], "clip_dissect"),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_hyphens(written, known, meant):
    said = str(unknown_name("name", written, known))
    assert said.startswith(f"Unknown name {written!r}. Did you mean {meant}?")
    assert said.endswith(f"Available: {', '.join(sorted(known))}.")


def test_nothing_near_is_no_suggestion():
    assert "Did you mean" not in str(unknown_name("name", "zzz", ["abc"]))
