"""Credits: the monthly reset of free ones, the expiry of purchased ones, and the warning before."""
