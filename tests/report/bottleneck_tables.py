"""Small tables of a concept bottleneck, for the tests of what is made of them."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
from PIL import Image

CONDITIONS = (("clean", 0), ("unseen_background", 0), ("fog", 3), ("gaussian_blur", 3))
PLACE = {"task": "toy", "profile": "miniature"}


def heads() -> pd.DataFrame:
    rows = []
    for place, (name, severity) in enumerate(CONDITIONS):
        for number, head in enumerate(("backbone_dense", "backbone_sparse", "concepts_dense", "concepts_sparse")):
            accuracy = 0.9 - 0.2 * place + 0.01 * number
            row = {"head": head, "perturbation": name, "severity": severity, "images": 50, "accuracy": accuracy}
            row |= {"low": accuracy - 0.1, "high": accuracy + 0.05, "flips": 0.1 * place}
            row |= {"p_value": None, "p_corrected": 0.01 if name == "fog" else 0.9}
            row |= {"difference": 0.01 * number, "difference_low": -0.02, "difference_high": 0.05}
            rows.append(row | {"p_dense": 0.5, "p_dense_corrected": 1.0})
    return pd.DataFrame(rows).assign(**PLACE)


def drift() -> pd.DataFrame:
    parts = {"fog": (3.0, 1.0, -0.5), "unseen_background": (None, None, None)}
    rows = []
    for name, severity in (("unseen_background", 0), ("fog", 3)):
        for concept, context, shift, part in zip(
            ("circle", "tree", "brick wall"), (False, False, True), (1.0, -0.5, 0.2), parts[name], strict=True
        ):
            row = {"perturbation": name, "severity": severity, "concept": concept, "context": context, "images": 50}
            flips = 0 if part is None else 12
            rows.append(row | {"shift": shift, "auroc": 0.1, "flips": flips, "flip_contribution": part})
    return pd.DataFrame(rows).assign(**PLACE).astype({"flip_contribution": float})


def separation() -> pd.DataFrame:
    rows = []
    for negatives, positives in (
        ("clean", "anomaly"),
        ("clean", "unseen_background"),
        ("anomaly", "unseen_background"),
    ):
        inputs = ("context less other",) if negatives == "anomaly" else ("context", "other", "all", "features")
        for place, kind in enumerate(inputs):
            for score in ("nearest", "mahalanobis"):
                area = 0.6 + 0.05 * place + 0.1 * (positives == "anomaly") + 0.01 * (score == "nearest")
                row = {"negatives": negatives, "positives": positives, "severity": 0, "inputs": kind, "score": score}
                rows.append(row | {"auroc": area, "low": area - 0.1, "high": area + 0.1})
    return pd.DataFrame(rows).assign(**PLACE, negative_images=50, positive_images=25)


def facts() -> dict[str, Any]:
    return {
        "toy": {
            "labels": ["shape", "plant"],
            "training_images": [70, 60],
            "filters": [{"name": "long", "removed": []}, {"name": "not visible", "removed": ["elephant", "office"]}],
            "concepts": {"circle": 0.9, "tree": 0.7},
            "heads": {
                "concepts_sparse": {"weights_per_class": [2, 1], "kkt_violation": 1e-3},
                "backbone_sparse": {"weights_per_class": [5, 6], "kkt_violation": 5e-4},
            },
            "weights": {"shape": {"tree": -1.0, "circle": 2.0}, "plant": {"tree": 1.5}},
            "held_out": ["fish"],
        }
    }


def decision(image: str, perturbation: str, severity: int, old: str, new: str, concepts: int = 9) -> pd.DataFrame:
    """A decision with concepts of falling weight, every second one absent."""
    rows = []
    for number in range(concepts):
        sign, size = (1 if number % 2 == 0 else -1), 2.0 / (number + 1)
        row = {"concept": f"c{number}", "clean_activation": float(sign), "clean_contribution": sign * size}
        if perturbation == "clean":
            row |= {"activation": float(sign), "contribution": sign * size, "moved": 0.0}
        else:
            row |= {"activation": -float(sign), "contribution": -sign * size / 2, "moved": float(number)}
        rows.append(row)
    place = {"image": image, "perturbation": perturbation, "severity": severity, "truth": old}
    return pd.DataFrame(rows).assign(**place, clean_decision=old, decision=new, **PLACE)


def decisions() -> pd.DataFrame:
    return pd.concat(
        [
            decision("a", "clean", 0, "plant", "plant"),
            decision("b", "clean", 0, "shape", "shape", concepts=3),
            decision("a", "fog", 3, "plant", "shape"),
            decision("c", "frost", 3, "plant", "shape"),
            decision("b", "unseen_background", 0, "shape", "plant"),
            decision("d", "snow", 3, "plant", "shape"),
        ],
        ignore_index=True,
    )


def thumbnails() -> pd.DataFrame:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(buffer, "WEBP")
    places = [("a", "clean", 0), ("a", "fog", 3), ("b", "clean", 0)]
    frame = pd.DataFrame(places, columns=["image", "perturbation", "severity"])
    return frame.assign(webp=[buffer.getvalue()] * len(places), repeat=0, **PLACE)
