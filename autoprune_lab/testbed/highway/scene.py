"""What is seen of a highway at one moment, before anything is drawn or planned.

The frame is the ego car's: metres ahead and to the left of its middle.
"""

from dataclasses import dataclass

LANES, LANE = 4, 4.0  # how many, and metres of width
LENGTH, WIDTH = 5.0, 2.0  # metres of every car
VIEWS, IMAGE_SIZE, PATCH = ("behind", "near", "far"), 64, 8  # one strip of road, cut into three pictures
SCALE = 3.2  # pixels a metre
BEHIND = 15.0  # metres of road that are shown behind the ego car's middle
AHEAD = len(VIEWS) * IMAGE_SIZE / SCALE - BEHIND
ASIDE = IMAGE_SIZE / SCALE / 2  # metres shown to either side
SPEEDS = (15, 20, 25, 30)  # that the ego car can aim at, m/s
SLOWEST, FASTEST = 12, 31  # m/s, of what it is told


@dataclass(frozen=True)
class Car:
    """Another car: metres ahead and to the left of the ego car, and its heading in radians, to the left."""

    ahead: float
    left: float
    heading: float = 0.0


@dataclass(frozen=True)
class Moment:
    """`lane` of the ego car, counted from the left, `left`: metres to the left of its middle; `speed` in m/s.

    `cars`: whom the pictures may show. `along`: metres of road since its beginning, of which its marks depend.
    """

    lane: int
    left: float
    heading: float
    speed: float
    cars: tuple[Car, ...]
    along: float = 0.0

    def seen(self) -> tuple[Car, ...]:
        """Those of the cars whose middle the pictures show."""
        return tuple(car for car in self.cars if -BEHIND < car.ahead < AHEAD and abs(car.left) < ASIDE)

    def in_lane(self, change: int) -> tuple[Car, ...]:
        """The seen cars in the lane so many to the left of the ego car's, from behind to ahead."""
        beside = (car for car in self.seen() if round((self.left + car.left) / LANE) == change)
        return tuple(sorted(beside, key=lambda car: car.ahead))


def has_lane(moment: Moment, change: int) -> bool:
    """Is there a lane so many to the left?"""
    return 0 <= moment.lane - change < LANES
