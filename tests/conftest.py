"""What holds for every test: a property is judged by what it says, and never by how busy the machine is."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
