"""Turning to the patient's axes, held against the coordinates of every pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.dicom.errors import Unusable
from lib.dicom.geometry import Turn, centre_z, turn_to_patient


def directions(about_x, about_y, in_plane, order, signs):
    """Return ImageOrientationPatient of an axial plane, turned by angles in degrees, flipped and transposed."""
    a, b, c = np.radians([about_x, about_y, in_plane])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    axes = np.eye(3)[:2] * np.array(signs)[:, None]
    return (axes[list(order)] @ (rx @ ry @ rz).T).ravel()


def coordinates(position, orientation, spacing, rows, columns):
    """Return x, y, z of every pixel, (rows, columns, 3), by the standard's equation, pixel by pixel."""
    found = np.empty((rows, columns, 3))
    for row in range(rows):
        for column in range(columns):
            along = np.array(orientation[:3]) * spacing[1] * column + np.array(orientation[3:]) * spacing[0] * row
            found[row, column] = np.array(position) + along
    return found


small = st.floats(-6, 6)
flips = st.sampled_from([-1, 1])


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(small, small, small),
    order=st.sampled_from([(0, 1), (1, 0)]),
    signs=st.tuples(flips, flips),
    position=st.tuples(*[st.floats(-500, 500)] * 3),
    spacing=st.tuples(st.floats(0.3, 2), st.floats(0.3, 2)),
    shape=st.tuples(st.integers(2, 6), st.integers(2, 6)),
)
def test_after_the_turn_rows_run_backwards_and_columns_to_the_left(angles, order, signs, position, spacing, shape):
    orientation = directions(*angles, order, signs)
    try:
        turn, tilt = turn_to_patient(orientation)
    except Unusable:
        assert np.hypot(*angles[:2]) > 9 or abs(angles[2]) > 9
        return
    where = coordinates(position, orientation, spacing, *shape)
    x, y, z = (turn.image(where[..., axis]) for axis in range(3))
    assert (np.diff(x, axis=1) > 0).all()  # toward the patient's left
    assert (np.diff(y, axis=0) > 0).all()  # toward the back
    assert x.shape == turn.pair(*shape)
    assert centre_z(position, orientation, spacing, *shape) == pytest.approx(z.mean(), abs=1e-6)
    np.testing.assert_array_equal(turn.stored(turn.image(where[..., 0])), where[..., 0])
    assert tilt == pytest.approx(max(np.degrees(np.arccos(np.cos(np.radians(angles[:2])).prod())), 0), abs=7)


@pytest.mark.parametrize("tilt", [0, 3, 9.9])
def test_the_tilt_is_the_angle_from_axial(tilt):
    turn, found = turn_to_patient(directions(tilt, 0, 0, (0, 1), (1, 1)))
    assert found == pytest.approx(tilt, abs=1e-4) and turn == Turn(False, False, False)


def test_more_than_ten_degrees_are_refused():
    with pytest.raises(Unusable, match="tilted by 11 degrees"):
        turn_to_patient(directions(11, 0, 0, (0, 1), (1, 1)))
    with pytest.raises(Unusable, match="turned in plane by 11 degrees"):
        turn_to_patient(directions(0, 0, 11, (0, 1), (1, 1)))
