"""A bridge that deletes what it keeps no longer every few seconds: `python -m` this `serve`."""

from bridge.cli.main import main
from bridge.service import retention

# Once a minute would be once in a whole soak.
retention.INTERVAL_S = 3.0

if __name__ == "__main__":
    main()
