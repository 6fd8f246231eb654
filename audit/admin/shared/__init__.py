"""What the pages share: paging, panels, exports, ranges of time, wording."""
