"""Images that ganpipe ships or draws: flowers with known modes, two styles, two photographs."""
