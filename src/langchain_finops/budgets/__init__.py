"""What a call may cost before it is made, and what it is charged when nobody says what it used."""
