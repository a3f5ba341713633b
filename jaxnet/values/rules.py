"""How each kind of value is digested: the table RULES, in which the first match counts."""

import enum
import functools
import types
import weakref
from typing import Any

import jax
import numpy as np

from jaxnet.values import functions as f, objects as o
from jaxnet.values.fingerprint import Fingerprinter, Rule

_COMPILED = (functools._lru_cache_wrapper, type(jax.jit(lambda: None)))
_DESCRIPTORS = (
    *(types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType),
)
_WEAK = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet)

RULES: tuple[tuple[Any, Rule], ...] = (
    (types.FunctionType, f.of_function),
    (types.MethodType, f.of_method),
    ((types.BuiltinFunctionType, types.MethodWrapperType), f.of_builtin),
    (_DESCRIPTORS, f.of_descriptor),
    (types.CodeType, f.of_code),
    (functools.partial, f.of_partial),
    (_COMPILED, f.of_wrapper),
    ((staticmethod, classmethod), f.of_class_member),
    (property, f.of_property),
    (functools.cached_property, f.of_cached_property),
    (type, o.of_class),
    (types.ModuleType, o.of_module),
    (enum.Enum, o.of_member),
    (weakref.ref, o.of_reference),
    (_WEAK, o.of_cache),
    ((np.ndarray, np.generic), o.of_array),
    (jax.Array, o.of_jax_array),
    (types.MappingProxyType, o.of_mapping),
)


def rule_for(value: Any) -> Rule:
    """Return the function that digests values of this kind."""
    return next((rule for kinds, rule in RULES if isinstance(value, kinds)), o.of_object)


def new_fingerprinter() -> Fingerprinter:
    """Return a Fingerprinter that digests by RULES and remembers nothing yet."""
    return Fingerprinter(rule_for)
