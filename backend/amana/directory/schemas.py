# SPDX-License-Identifier: AGPL-3.0-or-later
"""What publishing takes and answers."""

import marshmallow as ma


def _files() -> ma.fields.Dict:
    return ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.String(), required=True)


class BundleIn(ma.Schema):
    """TUF files by name, each in Base64."""

    class Meta:
        unknown = ma.RAISE

    metadata = _files()
    targets = _files()


class PublishedOut(ma.Schema):
    """The version that is published now."""

    version = ma.fields.Integer(metadata={"example": 1})
