"""Images that ganpipe ships or paints: flowers with known modes, two styles, two photographs."""
