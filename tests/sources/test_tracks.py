"""Tracks: made-up boxes of walking, crossing, hidden and lost people."""

from visir.sources.tracks import Box, Sight, picks, tracks


def person(left: float, top: float = 50, score: float = 0.9) -> Box:
    return Box(left, top, left + 40, top + 100, score)


def follow(frames, patience=6.0):
    """One frame a second."""
    return tracks(frames, range(len(frames)), patience)


def lefts(track):
    return [sight.box.left for sight in track]


def test_two_people_side_by_side_are_two_tracks_in_the_order_of_their_boxes():
    frames = [[person(10 + 5 * t), person(200 - 5 * t)] for t in range(10)]
    first, second = follow(frames)
    assert lefts(first) == [10 + 5 * t for t in range(10)]
    assert lefts(second) == [200 - 5 * t for t in range(10)]
    assert [sight.frame for sight in first] == [*range(10)]


def test_the_order_of_boxes_within_a_frame_does_not_matter():
    frames = [[person(10 + 5 * t), person(200 - 5 * t)][:: (-1) ** t] for t in range(10)]
    assert [lefts(track)[-1] for track in follow(frames)] == [55, 155]


def test_crossing_people_keep_their_tracks_while_one_hides_the_other():
    frames = []
    for t in range(25):
        walker, other = person(10 + 12 * t), person(310 - 12 * t, top=54)
        hidden = abs(walker.left - other.left) < 40
        frames.append([walker] if hidden else [walker, other])
    assert sum(len(boxes) == 1 for boxes in frames) >= 3
    first, second = follow(frames)
    assert lefts(first) == [10 + 12 * t for t in range(25)]
    assert lefts(second)[-1] == 310 - 12 * 24
    assert {sight.box.top for sight in second} == {54}


def test_people_who_cross_are_distinguished_by_velocity():
    frames = [[person(10 + 12 * t), person(310 - 12 * t)] for t in range(25)]
    assert [lefts(track)[-1] for track in follow(frames)] == [10 + 12 * 24, 310 - 12 * 24]


def test_a_gap_is_bridged_up_to_the_maximum():
    frames = [[person(10 + 6 * t)] if t < 5 or t > 8 else [] for t in range(14)]  # 4 are missing
    assert len(follow(frames, patience=5)) == 1
    early, late = follow(frames, patience=4)
    assert (early[-1].frame, late[0].frame) == (4, 9)
    assert len(follow([[person(10)], [person(12)]], patience=1)) == 1


def test_a_quick_start_is_followed_until_the_velocity_is_known():
    assert len(follow([[person(10 + 30 * t)] for t in range(6)])) == 1  # overlap 1 in 7
    assert len(follow([[person(10 + 36 * t)] for t in range(6)])) == 6


def test_a_jump_is_another_person():
    assert len(follow([[person(10)], [person(200)], [person(202)]])) == 2


def test_every_box_is_in_exactly_one_track():
    frames = [[person(60 * i + 7 * t * (-1) ** i) for i in range(4)] for t in range(9)]
    found = [sight for track in follow(frames) for sight in track]
    assert sorted(found) == sorted(Sight(t, box) for t, boxes in enumerate(frames) for box in boxes)


def test_no_boxes_give_no_track():
    assert follow([[], [], []]) == []
    assert follow([]) == []


SIZE = (200, 400)


def test_picks_are_spread_over_time_and_best_by_score_and_area():
    boxes = [person(50 + t, score=0.9 if t in (1, 5, 6) else 0.6) for t in range(9)]
    boxes[6] = boxes[6]._replace(bottom=140)  # less area than frame 5
    (track,) = follow([[box] for box in boxes])
    assert [sight.frame for sight in picks(track, SIZE, 3)] == [1, 5, 6]
    assert [sight.frame for sight in picks(track, SIZE, 2)] == [1, 5]
    assert [sight.frame for sight in picks(track, SIZE, 1)] == [1]


def test_picks_do_not_touch_the_border_unless_all_do():
    boxes = [person(1 if t < 4 else 30, score=0.99 if t < 4 else 0.7) for t in range(5)]
    track = tuple(Sight(t, box) for t, box in enumerate(boxes))
    assert [sight.frame for sight in picks(track, SIZE, 1)] == [4]
    assert [sight.frame for sight in picks(track, SIZE, 3)] == [4]
    for cut in (person(0), person(359.5), person(50, top=0.5), person(50, top=99)):
        assert picks((Sight(0, cut), Sight(1, person(50))), SIZE, 1) == [Sight(1, person(50))]
    outside = (Sight(0, person(0, score=0.7)), Sight(1, person(0, score=0.8)))
    assert picks(outside, SIZE, 3) == [outside[1]]
