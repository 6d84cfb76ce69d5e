"""What people look at: dataset pages, contact sheets, charts."""
