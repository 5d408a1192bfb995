from ramify.runtime.executor.philox import philox4x32, uniforms

ONES = 0xFFFFFFFF


def test_known_answers_of_the_random123_distribution():
    assert philox4x32((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox4x32((ONES,) * 4, (ONES,) * 2) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    counter = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    answer = (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)
    assert philox4x32(counter, (0xA4093822, 0x299F31D0)) == answer


def test_draws_are_uniform_and_differ_by_seed_sequence_and_position():
    rows = [(seed, n, i) for seed in (-1, 7) for n in range(2) for i in range(2500)]
    draws = uniforms(*zip(*rows, strict=True)).tolist()
    assert len(set(draws)) == 10_000
    assert all(0.0 <= draw < 1.0 for draw in draws)
    counts = [sum(k <= draw * 10 < k + 1 for draw in draws) for k in range(10)]
    assert max(abs(count - 1000) for count in counts) < 120


def test_a_draw_is_the_same_alone_and_among_many():
    rows = [(seed, n, i) for seed in (-1, 2**63, 5) for n in (0, 3) for i in (0, 9, 2**33)] * 3
    together = uniforms(*zip(*rows, strict=True)).tolist()
    assert together == [uniforms([seed], [n], [i])[0] for seed, n, i in rows]
