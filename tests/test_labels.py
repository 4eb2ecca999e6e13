import stat

from lib.labels import secret_key


def test_an_own_cohort_has_a_random_key_that_stays_and_that_only_its_owner_reads(tmp_path):
    key = secret_key(tmp_path / "private")
    assert secret_key(tmp_path / "private") == key != secret_key(tmp_path / "other")
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "private" / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
