"""`Profiles`: the profiles that a model was given, by their names, and the mask of each.

It refuses profiles of another model, and masks where the model's choices are replaced already. Read
`prepare.py` for who asks, `expert_profile/profile.py` for what a profile is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from araio.config import ModelConfig
from araio.errors import ProfileError, RequestError
from araio.expert_profile import ExpertProfile
from araio.json_reader import shown
from araio.nn.mask import ExpertMask

__all__ = ["AskedProfile", "Profiles"]

AskedProfile: TypeAlias = str | ExpertProfile
"""The name of one that the model was given, or any that is of this model."""


class Profiles:
    """Of one model.

    fingerprint  of its routers; reading them takes a while, so only asked for where it is needed
    approximate  name of what replaces the choices of its routers; None if nothing does
    default      the mask of requests that ask for none
    """

    def __init__(
        self, config: ModelConfig, fingerprint: Callable[[], str], approximate: str | None = None
    ) -> None:
        self._config = config
        self._fingerprint = fingerprint
        self._approximate = approximate
        self._known: dict[str, tuple[ExpertProfile, ExpertMask]] = {}
        self.default: ExpertMask | None = None

    @property
    def known(self) -> Mapping[str, ExpertProfile]:
        """Those that were given, by name, in the order in which they were."""
        return {name: profile for name, (profile, _) in self._known.items()}

    def add(self, profile: ExpertProfile) -> None:
        """Know a profile by its name.

        Raises:
            ProfileError: it is of another model, or there is another one of that name.
        """
        earlier = self._known.get(profile.name)
        if earlier is not None and earlier[0].id != profile.id:
            raise ProfileError(
                f"two profiles are named {profile.name!r} and keep different experts; change one of the names"
            )
        self._known[profile.name] = profile, self._mask_of(profile)

    def use_by_default(self, name: str) -> None:
        """Mask every request that asks for nothing else."""
        self.default = self.mask(name)

    def mask(self, asked: AskedProfile | None) -> ExpertMask | None:
        """What a request gets; None where it may use every expert.

        Raises:
            RequestError: a name that is not known, or a mask beside an approximation.
            ProfileError: a profile of another model.
        """
        if asked is None:
            return self.default
        if self._approximate is not None:
            raise RequestError(
                f"profile is given and the model runs with --approximate {self._approximate}: both change "
                "which experts answer, and what they cost together is not known; leave one of them out",
                param="profile",
            )
        if isinstance(asked, ExpertProfile):
            return self._mask_of(asked)
        if asked not in self._known:
            known = ", ".join(self._known) or "none"
            raise RequestError(f"no profile {shown(asked)}; this model was given {known}", param="profile")
        return self._known[asked][1]

    def _mask_of(self, profile: ExpertProfile) -> ExpertMask:
        profile.check(self._config, self._fingerprint())
        return ExpertMask(profile)
