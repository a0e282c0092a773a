"""The page: forms made from requests, and jobs shown from their events."""
