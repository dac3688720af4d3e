module teller

go 1.26
