"""The demonstration: releases of good and bad revisions on one machine, under the eyes of users."""
