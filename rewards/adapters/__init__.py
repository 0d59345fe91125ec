"""The rewards in other trainers: one thin module each, which imports the trainer's library only when it is used."""
