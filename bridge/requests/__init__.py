"""Requests, whichever adapter they come from: decoded, permitted, admitted as jobs, answered."""
