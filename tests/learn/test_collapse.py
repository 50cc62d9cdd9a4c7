from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inzitu.learn.bins import Histogram
from inzitu.learn.collapse import own_weights, remarks
from inzitu.learn.heads import MixtureHead
from inzitu.learn.mixture import Mixture
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import train
from learn.tiny import coloured, offer, thirds


def test_a_component_counts_where_it_has_weight_at_a_place_of_its_own() -> None:
    weights = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.001, 0.799, 0.2]], np.float32)
    means = np.array([[1.0, 2.0, 3.0], [1.0, 1.004, 3.0], [1.0, 1.0, 3.0], [1.0, 1.0, 3.0]], np.float32)
    sigmas = np.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.1], [0.1, 0.2, 0.1], [0.1, 0.1, 0.1]], np.float32)
    own = own_weights(Mixture(weights, means, sigmas))
    # In the second row the second stands where the first does; in the third it is wider; in the last the first is idle.
    expected = weights.copy()
    expected[1, 1] = 0
    np.testing.assert_array_equal(np.asarray(own), expected)
    assert own_weights(Histogram(np.full((2, 7), 1 / 7), 1.0)).shape == (2, 0)


def test_lost_components_are_told_for_each_member() -> None:
    [remark] = remarks(np.array([[0.5, 0.02, 0.9], [0.001, 0.0, 0.999]]))
    assert remark.startswith("member 1: the mixture has collapsed from 3 components to 1;")
    assert remarks(np.zeros((2, 0))) == ()


@pytest.mark.parametrize(("logit", "collapsed"), [(0.0, False), (-30.0, True)])
def test_a_training_that_loses_a_component_says_so(
    monkeypatch: pytest.MonkeyPatch, logit: float, collapsed: bool
) -> None:
    offer(monkeypatch)
    begin = MixtureHead.initial_bias

    def bias(head: MixtureHead, labels: Any) -> Any:
        return begin(head, labels) + np.array([0, logit, 0, 0, 0, 0], np.float32)  # so far down no gradient reaches it

    monkeypatch.setattr(MixtureHead, "initial_bias", bias)
    recipe = Recipe(network="tiny", head="mixture(2)", epochs=4, batch_size=16, learning_rate=1e-3, evaluations=2)
    found = train(*coloured(60), thirds(60), recipe=recipe).remarks
    assert [remark.partition(";")[0] for remark in found] == (
        ["member 0: the mixture has collapsed from 2 components to 1"] if collapsed else []
    )
