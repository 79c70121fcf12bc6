"""The compiler: turns the document into operations, decoders, validators and serializers."""
