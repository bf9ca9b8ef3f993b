"""One scenario, the same answers wherever shared objects are used."""
