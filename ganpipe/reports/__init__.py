"""Reports for people: dataset pages, contact sheets, charts."""
