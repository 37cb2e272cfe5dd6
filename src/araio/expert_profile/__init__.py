"""Which experts of each layer a domain needs, as a file. Read `profile.py` first."""

from araio.expert_profile.profile import ExpertProfile, check_name
from araio.expert_profile.profiled_model import ProfiledModel

__all__ = ["ExpertProfile", "ProfiledModel", "check_name"]
