"""What all forms of pages share."""

import re

from django import forms

from controlplane.lib.errors import ApplicationError, NotFound

PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class RefusableForm(forms.Form):
    """A form that shows what a service refuses beside the fields that it is about."""

    def refuse(self, error: ApplicationError) -> None:
        """Show a service's error next to the field that it names. Raises an error again that is not about this form."""
        if isinstance(error, NotFound):
            if "pipeline" not in self.fields:
                raise error
            self.add_error("pipeline", error.message)
            return
        for entry in error.errors:
            self.add_error(self._field_of(str(entry["field"])), str(entry["message"]))
        if not error.errors:
            if not 400 <= error.status < 500 or error.status == 403:
                raise error
            self.add_error(None, forms.ValidationError(error.message, code=error.code.value))

    def _field_of(self, path: str) -> str | None:
        """The field that shows errors about `path`, or None for those about the whole form."""
        first = re.split(r"[.\[]", path)[0]
        return first if first in self.fields else None
