"""The pages of `ganpipe dashboard`: each draws what the stages return, computes nothing and changes nothing."""
