from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from normfree.errors import UserError
from normfree.schema import Field
from normfree.train.flags import Flag, Off, component, current, settings, spelling
from normfree.train.override import override


@component
class Red:
    kind: Annotated[Literal["red"], Flag("color")] = "red"
    depth: int = 1
    shared: int = 1


@component
class Blue:
    kind: Annotated[Literal["blue", "navy"], Flag("color")] = "blue"
    width: int = 2
    shared: int = 1


@component
class Meters:
    meters: float = Field(gt=0)


@component
class Feet:
    feet: float = Field(gt=0)


@component
class Wheel:
    radius: Annotated[float, Flag("wheel_radius")] = Field(gt=0)
    spokes: int = 8


@component
class Car:
    name: str = "car"
    paint: Annotated[Red | Blue, Field(discriminator="kind")] = Red()
    length: Meters | Feet = Meters(meters=4.0)
    spare: Annotated[Wheel | None, Off("wheel_radius", 0)] = None


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"name": "van"}, Car(name="van")),
        ({"depth": 3}, Car(paint=Red(depth=3))),
        ({"color": "blue"}, Car(paint=Blue())),
        (
            {"width": 5, "color": "navy", "shared": 7},
            Car(paint=Blue(kind="navy", width=5, shared=7)),
        ),
        ({"feet": 9.0}, Car(length=Feet(feet=9.0))),
        ({"wheel_radius": 0.3}, Car(spare=Wheel(radius=0.3))),
        ({"spokes": 9, "wheel_radius": 0.3}, Car(spare=Wheel(radius=0.3, spokes=9))),
        ({"wheel_radius": 0}, Car()),
    ],
)
def test_values_reach_the_component_that_has_them(values: dict[str, Any], wanted: Car) -> None:
    assert override(Car(), values) == wanted
    assert override(Car(), dict(reversed(values.items()))) == wanted


def test_a_component_is_switched_off_and_settings_are_kept_between_variants() -> None:
    car = Car(paint=Red(shared=5), spare=Wheel(radius=0.3))
    assert override(car, {"wheel_radius": 0}).spare is None
    assert override(car, {"color": "navy"}).paint == Blue(kind="navy", shared=5)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"colour": "red"}, "unknown setting 'colour'; did you mean color?"),
        ({"color": "green"}, "unknown color 'green'; known: blue, navy, red"),
        ({"width": 3}, "--width is a setting of --color blue or navy, not of red"),
        ({"spokes": 3}, "--spokes does nothing without --wheel-radius"),
        ({"spokes": 3, "wheel_radius": 0}, "--spokes does nothing without --wheel-radius"),
        ({"meters": 1.0, "feet": 3.0}, "give --feet or --meters, not both"),
        ({"wheel_radius": -1}, "--wheel-radius should be greater than 0; got -1"),
        ({"meters": "long"}, "--meters should be a valid number; got 'long'"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Car(), values)
    assert str(caught.value) == said


def test_the_current_value_of_a_setting() -> None:
    flags = ("name", "color", "depth", "width", "meters", "feet", "wheel_radius", "spokes")
    assert [current(Car(), flag) for flag in flags] == ["car", "red", 1, None, 4.0, None, 0, None]
    with pytest.raises(UserError, match="unknown setting"):
        current(Car(), "wings")


def test_all_settings_in_order() -> None:
    assert [setting.flag for setting in settings(Car)] == [
        *("name", "color", "depth", "shared", "color", "width", "shared"),
        *("meters", "feet", "wheel_radius", "spokes"),
    ]
    assert spelling(Car, "length") == "--meters or --feet"
