"""Tests that charge thousands of rows: away from the others, whose hundreds of audits would each read those too."""
