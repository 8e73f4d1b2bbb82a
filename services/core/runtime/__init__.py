"""What every server process is made of; it knows nothing of hands, and no service is named here."""
