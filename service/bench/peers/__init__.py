"""`tessera bench peers`: the same graph, payload and cores behind Tessera and behind other servers, in one run."""
