"""What lies beside the shipped networks is what the published tables were made of."""

import pandas as pd
import pytest

from lib.files import ROOT
from lib.masking.networks import network_levels
from lib.masking.statistics import read_masking, slice_means
from lib.metrics import headline

PUBLISHED = pd.read_csv(ROOT / "tables/seeds.csv").set_index("network")


@pytest.mark.parametrize("name", [PUBLISHED.index[0], PUBLISHED.index[-1]])
def test_shipped_slices_give_the_published_numbers(name):
    folder = ROOT / "weights" / name
    slices = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'")
    f1 = headline(slices["phase"], slices["predicted"])["f1"]
    assert f1 == pytest.approx(PUBLISHED.loc[name, "f1_slices"], abs=1e-9)
    keys = ["method", "layer", "region", "phase"]
    found = network_levels({name: slice_means(read_masking(folder / "masking"))}).set_index(keys)
    table = pd.read_csv(ROOT / "tables/masking_networks.csv").query("network == @name").set_index(keys)
    columns = ["value", "less_control"]
    pd.testing.assert_frame_equal(found[columns].sort_index(), table[columns].sort_index(), atol=1e-3)


def test_every_published_network_is_shipped_with_its_slices():
    for name in PUBLISHED.index:
        for file in ("model.keras", "standardisation.json", "history.csv", "predictions.parquet", "masking/done.json"):
            assert (ROOT / "weights" / name / file).exists(), f"{name}/{file}"
