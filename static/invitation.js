// Moves the code of an invitation from the part of the address after "#", which browsers send nowhere, into the form.
// Without this file the user pastes it.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const field = document.getElementById("id_code");
  const code = location.hash.slice(1);
  if (!field || !code.startsWith("hci_")) return;
  field.value = code;
  // Neither the history nor a copied address keeps it.
  history.replaceState(null, "", location.pathname);
});
