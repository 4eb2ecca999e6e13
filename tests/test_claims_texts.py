"""The claims of the related texts: their table, the weakest part, and what is said of claims without a part."""

import pandas as pd
import pytest

from lib.atlas.claims import CLAIMS as METHODS
from lib.claims.texts import statements, verdicts, weakest
from lib.paper import published
from lib.xray.chest_claims import CLAIMS as CHESTS
from lib.xray.plate_maps import CLAIMS as PLATES


def parts(**found):
    return pd.DataFrame([(claim, word) for claim, words in found.items() for word in words.split(", ")],
                        columns=["id", "verdict"])  # fmt: skip


def test_every_claim_has_its_words_its_source_and_its_rule():
    table = published("text_claims")
    assert table["id"].is_unique and not (table == "").any(axis=None)
    assert [*METHODS, *CHESTS, *PLATES] == table["id"].tolist()
    assert statements("M")["M3"] == "With an artifact, the heat is not on it"
    assert set(table.loc[table["text"] == "ours", "id"]) == {"A9", "Q5"}
    assert set(table["source"]) == {"abstract", "our reading of the abstract", "second-hand", "ours"}


def test_a_claim_gets_the_verdict_of_its_weakest_part():
    table = parts(M1="supported, supported", M2="supported, inconclusive", M3="inconclusive, contradicted, supported",
                  M4="supported, network too weak")  # fmt: skip
    assert weakest(table).tolist() == ["supported", "inconclusive", "contradicted", "network too weak"]
    judged = verdicts(table).set_index("id")
    assert judged["verdict"].tolist() == [*weakest(table), "not tested here"], "nothing was measured for M5"
    assert judged.loc["M3", ["parts", "supported", "contradicted"]].tolist() == [3, 1, 1]
    assert judged.loc["M5", ["parts", "supported", "contradicted"]].tolist() == [0, 0, 0]
    assert judged.loc["M1", "claim"] == "Early layers show lines and edges of the teeth"


def test_an_unknown_claim_is_an_error():
    with pytest.raises(ValueError, match=r"claims \['M9'\].*A1, A2"):
        verdicts(parts(M9="supported"))
