"""Who is imaged: sex, age, stature and weight, and what they imply for the body's proportions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patient:
    """Demographics and the person's own departures from the average of their sex, age and build.

    ``frame``, ``slope``, ``heart``, ``vessels``, ``breast`` are standard normal deviates.
    """

    index: int
    sex: str
    age: int
    height: float
    """m"""
    bmi: float
    frame: float
    slope: float
    heart: float
    vessels: float
    breast: float
    smoker: bool
    seed: int

    @property
    def weight(self) -> float:
        """kg, one decimal."""
        return round(self.bmi * self.height**2, 1)

    @property
    def male(self) -> bool:
        return self.sex == "M"

    @property
    def ageing(self) -> float:
        """0 at 20 years, 1 at 90."""
        return float(np.clip((self.age - 20) / 70, 0, 1.1))

    @property
    def hyperinflation(self) -> float:
        """0 none to 1 severe; old smokers have it."""
        return float(np.clip(self.smoker * (self.age - 35) / 45, 0, 1))

    @property
    def bone(self) -> float:
        """Mineral density against a young man's; women lose more after 50."""
        loss = 0.15 * self.ageing + (0 if self.male else 0.25 * np.clip((self.age - 48) / 40, 0, 1))
        return float((1.0 if self.male else 0.92) * (1 - loss))

    @property
    def kyphosis(self) -> float:
        """0 straight upper spine to about 1 strongly bent."""
        return float(np.clip(0.25 + 0.1 * self.slope + 0.6 * self.ageing**2 * (1 if self.male else 1.35), 0, 1.3))

    @property
    def heart_ratio(self) -> float:
        """Cardiothoracic ratio without heart disease."""
        value = 0.425 + 0.03 * self.ageing + 0.012 * (not self.male) + 0.0022 * (self.bmi - 25)
        return float(np.clip(value + 0.018 * self.heart, 0.36, 0.495))


def draw_patient(seed: int, index: int) -> Patient:
    """The patient of that number; a pure function of (seed, index).

    Adults of 18 to 95 years, half of them women; height and BMI are about those of Western adults.
    """
    rng = np.random.default_rng([seed, 1, index])
    sex = "M" if rng.random() < 0.5 else "F"
    age = int(np.clip(18 + 78 * rng.beta(2.0, 1.7), 18, 95))
    height = rng.normal(1.77, 0.07) if sex == "M" else rng.normal(1.635, 0.065)
    bmi = np.clip(np.exp(rng.normal(np.log(26.0), 0.19)), 15.5, 48.0)
    frame, slope, heart, vessels, breast = rng.normal(size=5)
    return Patient(
        index=index,
        sex=sex,
        age=age,
        height=round(float(np.clip(height - 0.03 * max(0, age - 60) / 30, 1.42, 2.02)), 3),
        bmi=round(float(bmi), 1),
        frame=float(frame),
        slope=float(slope),
        heart=float(heart),
        vessels=float(vessels),
        breast=float(breast),
        smoker=bool(rng.random() < 0.22),
        seed=seed,
    )
