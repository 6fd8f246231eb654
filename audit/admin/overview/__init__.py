"""Where the pages of the app begin: what needs a person, what runs, and how today goes."""
