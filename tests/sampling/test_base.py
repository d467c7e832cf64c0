"""Seeds of samples."""

from solopo_llamafactory.sampling.base import seed_of
from tests.helpers.sampling import arguments, question


def test_seeds_differ_by_question_group_and_seed(tmp_path):
    args, other = arguments(tmp_path), arguments(tmp_path, seed=43)
    seeds = [seed_of(args, question(0), 0), seed_of(args, question(0), 8), seed_of(args, question(1), 0)]
    assert len({*seeds, seed_of(other, question(0), 0)}) == 4 and all(0 <= seed < 2**31 for seed in seeds)
    assert seeds[0] == 807334001  # the same in every process and version
