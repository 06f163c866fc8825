"""What a family of gains shows: closed forms, and simulated sweeps in which the truth is known."""

import numpy as np
import pytest
from scipy import stats

from distillab.evaluation.corrections import Correction
from distillab.evaluation.deviations import Error, errors
from distillab.evaluation.families import Contrast, family
from distillab.evaluation.gains import chances


def sweep(draw, methods, seeds, *, deviations=1.5, reference=1.5, gains=0.0):
    """Contrasts of a sweep in points; what is not given as an array is the same for all methods."""
    alone = draw.normal(0, reference, seeds)
    own = draw.normal(0, 1, (methods, seeds)) * np.broadcast_to(deviations, methods)[:, None]
    own += np.broadcast_to(gains, methods)[:, None]
    return [Contrast((90 + row) / 100, (90 + alone) / 100) for row in own]


def wrong(sweeps):
    return np.mean([any(found.shown for found in family(one)) for one in sweeps])


def pictures(draw, *, seeds=10, samples=360, methods=1):
    """Methods equal in the population, with a latent method-by-image effect of deviation 1."""
    base = draw.normal(1, 2, samples)

    def right():
        own = base + draw.normal(0, 1, samples)
        return (own + draw.normal(0, 1, (seeds, samples)) > 0).astype(float)

    alone = right()
    found = [right() for _ in range(methods)]
    return [Contrast(each.mean(1), alone.mean(1), each - alone) for each in found]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_family_of_one_is_the_paired_t_test(seeds):
    draw = np.random.default_rng(seeds)
    (one,) = sweep(draw, 1, seeds, gains=2.0)
    (found,) = family([one])
    known = stats.ttest_rel(one.own, one.reference)
    assert found.p == pytest.approx(known.pvalue, rel=0.02)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval(0.95)), rel=0.03, abs=1e-4)
    assert (found.runs, found.size, found.speaks_of) == (seeds, 1, ("runs",))


def test_the_correction_is_dunnetts():
    """Against scipy's, with so many runs that the deviation is as good as known."""
    draw = np.random.default_rng(0)
    alone, *own = draw.normal(0, 1, (6, 300))
    own[0] += 0.2
    found = family([Contrast(each, alone) for each in own])
    known = stats.dunnett(*own, control=alone, rng=np.random.default_rng(0))
    assert [one.p for one in found] == pytest.approx(known.pvalue, abs=0.03)
    assert found[0].p == pytest.approx(known.pvalue[0], rel=0.3)
    # Without a reference in common it is Šidák's; with nothing but the reference's error there is nothing to correct.
    known, two = np.ones((1, 1)), np.full((1, 1), 2.0)
    assert Correction([[Error(two, known)] * 4])(0.01) == pytest.approx(1 - 0.99**4, rel=0.02)
    assert 0.025 < Correction([[Error(two, known, np.ones(1))] * 4])(0.01) < 1 - 0.99**4
    assert 0.0099 < Correction([[Error(two, known, np.full(1, 2.0))] * 4])(0.01) < 0.015


def test_p_and_interval_never_contradict_each_other():
    draw = np.random.default_rng(1)
    for _ in range(30):
        for found in family(sweep(draw, 4, 3, gains=[0, 2, 4, 6])):
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_runs_without_a_spread_and_single_runs_show_nothing():
    same = Contrast(np.array([0.9, 0.91]), np.array([0.8, 0.81]))
    single = Contrast(np.array([0.9]), np.array([0.8]))
    for found in family([same]) + family([single]):
        assert found.gain == pytest.approx(0.1) and found.p is None and found.low is None
        assert found.size == 0 and found.speaks_of == () and not found.shown and found.chance_better is None
    assert family([]) == []


def test_one_seed_speaks_of_two_trained_files():
    right, alone = np.repeat([1.0, 0.0], [370, 30]), np.repeat([1.0, 0.0, 1.0], [340, 50, 10])
    (found,) = family([Contrast(np.array([right.mean()]), np.array([alone.mean()]), (right - alone)[None])])
    assert found.speaks_of == ("samples",) and found.chance_better is None
    more, less = int((right > alone).sum()), int((alone > right).sum())
    assert found.p == pytest.approx(2 * stats.norm.sf((more - less) / np.sqrt(more + less)), rel=1e-6)
    assert found.low < found.gain < found.high and found.shown == (found.low > 0)


def test_seeds_say_which_runs_are_the_same():
    """A method with fewer seeds counts the reference once; without seeds in common nothing is paired."""
    draw = np.random.default_rng(2)
    alone, own = draw.normal(0.9, 0.01, 5), draw.normal(0.9, 0.01, (3, 5))
    whole = [Contrast(each, alone, seeds=tuple(range(5))) for each in own]
    fewer = Contrast(own[2, [1, 4]], alone[[1, 4]], seeds=(1, 4))
    found = family([*whole[:2], fewer])
    assert found[2].runs == 2 and found[2].gain == pytest.approx((own[2, [1, 4]] - alone[[1, 4]]).mean())
    assert found[2].high - found[2].low > found[0].high - found[0].low
    # Shuffled seeds change nothing.
    order = [3, 0, 4, 1, 2]
    mixed = Contrast(own[0, order], alone[order], seeds=tuple(order))
    assert family([mixed, *whole[1:]])[0].p == pytest.approx(family(whole)[0].p)


@pytest.mark.parametrize(("methods", "seeds"), [(1, 3), (2, 5), (5, 3)])
def test_small_families_are_seldom_wrong(methods, seeds):
    draw = np.random.default_rng(methods)
    found = wrong(sweep(draw, methods, seeds) for _ in range(150))
    assert found <= 0.055 + 0.018, "a standard error on top"


def test_a_noisy_reference_is_no_gain_of_all_methods():
    """One unlucky mean of the student alone, four times as noisy as its methods, is in the gains of all of them."""
    draw = np.random.default_rng(6)
    assert wrong(sweep(draw, 3, 3, deviations=1, reference=4) for _ in range(300)) <= 0.055 + 0.013


def test_pairs_have_no_reference_in_common():
    """Swapped, each says the same of the other; no difference is as likely better as worse, whatever the others do."""
    runs = np.random.default_rng(7).normal(0.9, 0.02, (4, 3))
    runs[1] = runs[0, [1, 2, 0]]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]

    def found(pairs):
        return family([Contrast(runs[own], runs[other], pair=(own, other)) for own, other in pairs])

    for one, other in zip(found(pairs), found([pair[::-1] for pair in pairs]), strict=True):
        assert one.chance_better == pytest.approx(1 - other.chance_better, abs=1e-3)
        assert (one.p, one.low) == pytest.approx((other.p, -other.high), rel=1e-3)
    assert found(pairs)[0].chance_better == pytest.approx(0.5, abs=1e-3)


def test_of_39_methods_with_three_seeds_six_points_are_found():
    draw = np.random.default_rng(0)
    gains = np.zeros(39)
    gains[0] = 6
    found = [family(sweep(draw, 39, 3, gains=gains)) for _ in range(30)]
    assert np.mean([each[0].shown for each in found]) >= 0.55
    assert np.mean([any(one.shown for one in each[1:]) for each in found]) <= 0.07
    assert {one.size for each in found for one in each} == {39}


def test_equal_methods_are_told_from_lucky_on_these_images():
    """Two methods equal in the population differ on 360 images: without the images as a source most sweeps find that."""
    draw = np.random.default_rng(1)
    sweeps = [pictures(draw) for _ in range(200)]
    assert wrong(sweeps) <= 0.06
    assert wrong([[one._replace(samples=None) for one in each] for each in sweeps[:60]]) > 0.15
    (found,) = family(sweeps[0])
    assert found.speaks_of == ("runs", "samples")


def test_the_variance_over_images_is_that_of_the_two_way_layout():
    """With runs that differ by nothing but noise on each image, it is that of the images' mean differences."""
    draw = np.random.default_rng(3)
    effect = draw.normal(0, 0.3, 400)
    samples = effect + draw.normal(0, 0.02, (4, 400))
    one = Contrast(samples.mean(1), np.zeros(4), samples)
    (error,) = errors([one])
    assert np.sqrt(error.middle) == pytest.approx(effect.std(ddof=1) / 20, rel=0.05)


def test_chances_by_hand():
    """A gain known exactly is certain; the more the noise, the nearer to what is likely beforehand."""
    draw = np.random.default_rng(4)
    sure, none, small = (family([Contrast(gain + draw.normal(0.9, 1e-5, 5), draw.normal(0.9, 1e-5, 5))])[0]
                         for gain in (0.02, 0.0, 0.005))  # fmt: skip
    assert sure.chance_better > 0.99 and sure.chance_above > 0.99 and sure.chance_within < 0.01
    assert none.chance_within > 0.99 and small.chance_above < 0.01 < 0.99 < small.chance_better
    blurred = family([Contrast(0.02 + draw.normal(0.9, 0.1, 5), draw.normal(0.9, 0.1, 5))])[0]
    assert 0.35 < blurred.chance_better < 0.75
    huge = family([Contrast(np.array([0.9, 0.91]), np.array([0.1, 0.12]))])[0]
    assert 0.5 < huge.chance_better <= 1


@pytest.mark.parametrize("far", [-50, 50])
def test_one_method_far_from_the_others_says_nothing_of_them(far):
    """Two slightly bad methods beside one that fails: it neither is the reference's error nor makes all others better."""
    draw, said = np.random.default_rng(8), []
    for _ in range(60):
        three = sweep(draw, 3, 3, deviations=3, reference=3, gains=[-0.5, -0.5, far])
        with_it, without = family(three), family(three[:2])
        said.append([[one.chance_better for one in each[:2]] for each in (with_it, without)])
    beside, alone = np.array(said).transpose(1, 0, 2)
    assert abs(beside.mean() - alone.mean()) < 0.05 and abs((beside > 0.5).mean() - (alone > 0.5).mean()) < 0.15
    assert (beside > 0.9).mean() <= 0.03


@pytest.mark.parametrize("methods", [0, 1, 2])
def test_large_gains_that_are_shown_are_better_and_not_within_the_margin(methods):
    """A common gain of ten margins is no error of the reference's, though that deviates more; nor is a pair's (no methods)."""
    draw, said = np.random.default_rng(9), []
    for _ in range(40):
        three = sweep(draw, methods or 1, 3, deviations=1, reference=2.5, gains=10)
        pairs = [one._replace(pair=("own", "other")) for one in three]
        said += [(one.chance_better, one.chance_within) for one in family(three if methods else pairs) if one.shown]
    better, within = np.array(said).T
    assert len(said) >= 30 and (better >= 0.9).mean() >= 0.85 and better.min() > 0.8
    assert np.median(within) < 0.08 and (within <= 0.15).mean() >= 0.85


def stated(draw, studies, methods, seeds):
    """Pairs of a stated probability and whether it came true, over studies with gains and deviations as real ones vary."""
    pairs = []
    for _ in range(studies):
        centre, spread, deviation = draw.normal(0, 1), np.exp(0.7 * draw.normal()), draw.choice([0.4, 0.8, 1.5])
        gains = draw.normal(centre, spread, methods)
        each = sweep(draw, methods, seeds, deviations=deviation, reference=deviation, gains=gains)
        seen = [float((one.own - one.reference).mean()) for one in each]
        for gain, chance in zip(gains, chances(seen, errors(each), 0.01), strict=True):
            true = (gain > 0, gain > 1, abs(gain) <= 1)
            pairs += [pair for p, came in zip(chance, true, strict=True) for pair in ((p, came), (1 - p, not came))]
    return np.array(pairs, float)


def calibrated(pairs, low=0.86, high=0.94):
    chosen = pairs[(pairs[:, 0] > low) & (pairs[:, 0] < high)]
    return float(chosen[:, 1].mean() - chosen[:, 0].mean()), len(chosen)


def test_statements_of_90_percent_are_true_as_often():
    off, count = calibrated(stated(np.random.default_rng(0), 150, 5, 3))
    assert count > 200 and abs(off) < 0.04


@pytest.mark.slow
@pytest.mark.parametrize(("methods", "seeds", "studies"), [(1, 5, 6000), (5, 3, 1500), (5, 5, 1500), (39, 3, 150)])
def test_statements_are_true_as_often_in_many_studies(methods, seeds, studies):
    off, count = calibrated(stated(np.random.default_rng(1), studies, methods, seeds))
    # Of 39 methods 94 in 100 are true: the reference may be noisier than they are, which so many take into account.
    most = 0.045 if methods == 39 else 0.02 + 0.006
    assert count > 1000 and abs(off) <= most, "a standard error on top"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("methods", [1, 2, 5, 39])
@pytest.mark.parametrize("spread", ["same", "half", "even"])
def test_families_are_seldom_wrong_also_where_deviations_differ(methods, seeds, spread):
    """By a factor of four: half of the methods, or evenly over the range; the reference is as any of them."""
    draw = np.random.default_rng(methods)

    def deviations():
        if spread == "even":
            return 0.75 * 4 ** draw.random(methods + 1)
        return np.where(draw.random(methods + 1) < 0.5, 0.75, 3) if spread == "half" else np.full(methods + 1, 1.5)

    sweeps = ((*rest, last) for *rest, last in (deviations() for _ in range(800)))
    found = wrong(sweep(draw, methods, seeds, deviations=rest, reference=last) for *rest, last in sweeps)
    assert found <= (0.05 if methods == 39 else 0.055) + 0.014, "a standard error on top"


@pytest.mark.slow
def test_six_points_are_found_in_three_of_five_sweeps():
    draw, gains = np.random.default_rng(5), np.zeros(39)
    gains[0] = 6
    found = np.mean([family(sweep(draw, 39, 3, gains=gains))[0].shown for _ in range(500)])
    print(f"39 methods, 3 seeds, 6 points: {100 * found:.1f} %")
    assert found >= 0.6 - 0.02, "a standard error below"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("methods", [1, 3])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 2, 4, 5])
def test_families_are_seldom_wrong_whatever_the_reference_deviates(methods, seeds, ratio):
    draw = np.random.default_rng(methods)
    found = wrong(sweep(draw, methods, seeds, deviations=1, reference=ratio) for _ in range(1000))
    print(f"{methods} methods, {seeds} seeds, ratio {ratio}: {100 * found:.1f} %")
    most = 0.05 if ratio <= 2 else 0.085  # three runs of a reference hardly tell its luck from a gain of all
    assert found <= most + 0.014, "two standard errors on top: one method alone has the paired t-test"


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "methods"), [(3, 1), (10, 1), (10, 5)])
def test_equal_methods_are_seldom_told_apart(seeds, methods):
    draw = np.random.default_rng(seeds)
    assert wrong(pictures(draw, seeds=seeds, methods=methods) for _ in range(1000)) <= 0.06
