"""Judge files of deploy/ and of exports by their programs' own descriptions.

    check.py kubernetes FILE VERSION...   each document, by the JSON schemas of these versions (kubernetes-validate)
    check.py kserve FILE                  the InferenceService, by the models of KServe's and Kubernetes' Python clients
    check.py triton DIR [LIBRARY]         DIR/config.pbtxt, by Triton's model_config.proto and by DIR/1/model.onnx

Exits 1 with what is wrong.
"""

import importlib
import importlib.util
import pathlib
import re
import sys
import types


def documents(file):
    import yaml

    class Loader(yaml.SafeLoader):
        """Mappings with a key twice are mistakes."""

        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(k, deep=True) for k, _ in node.value]
            if len(set(keys)) < len(keys):
                raise ValueError(f"{node.start_mark}: a key stands twice among {keys}")
            return super().construct_mapping(node, deep)

    return [d for d in yaml.load_all(pathlib.Path(file).read_text(), Loader) if d is not None]


def check_kubernetes(file, *versions):
    import kubernetes_validate

    docs = documents(file)
    for version in versions:
        for d in docs:
            kubernetes_validate.validate(d, version, strict=True)
    # What a schema cannot see: labels that select, volumes that are there, keys and claims that are asked for by their names.
    claims = {d["metadata"]["name"] for d in docs if d["kind"] == "PersistentVolumeClaim"}
    for d in docs:
        pod = d.get("spec", {}).get("template", {}).get("spec")
        if pod is None:
            continue
        volumes = {v["name"] for v in pod["volumes"]}
        for v in pod["volumes"]:
            if "persistentVolumeClaim" in v and v["persistentVolumeClaim"]["claimName"] not in claims:
                raise ValueError(f"{d['kind']}: no claim {v['persistentVolumeClaim']['claimName']}")
        for c in pod["containers"]:
            for m in c["volumeMounts"]:
                if m["name"] not in volumes:
                    raise ValueError(f"{d['kind']}: no volume {m['name']}")
            s = c["securityContext"]
            if not (s["readOnlyRootFilesystem"] is True and s["allowPrivilegeEscalation"] is False and s["capabilities"]["drop"] == ["ALL"] and pod["securityContext"]["runAsNonRoot"] is True):
                raise ValueError(f"{d['kind']}: {c['name']} may do too much")
            ports = {p["name"] for p in c.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if ports and c[probe]["httpGet"]["port"] not in ports:
                    raise ValueError(f"{d['kind']}: {probe} asks another port")
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in docs if d["kind"] == "Deployment"]
    for d in docs:
        if d["kind"] == "Service" and not any(d["spec"]["selector"].items() <= labels.items() for labels in pods):
            raise ValueError("the service selects no pod")
    print(f"{file}: {len(docs)} documents, Kubernetes {', '.join(versions)}")


def bare(name):
    """Make a package importable without its __init__."""
    module = types.ModuleType(name)
    module.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = module


def check_kserve(file):
    import kubernetes.client

    bare("kserve")  # whose __init__ wants a whole server
    models = importlib.import_module("kserve.models")

    # Kinds of the client that Kubernetes' own calls otherwise.
    same = {"ResourceQuantity": "str", "IntstrIntOrString": "object", "K8sIoApiAppsV1DeploymentStrategy": "V1DeploymentStrategy"}
    plain = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}
    count = 0

    def walk(value, kind, path):
        nonlocal count
        count += 1
        kind = same.get(kind, kind)
        if m := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
            if not isinstance(value, list):
                raise ValueError(f"{path}: want a list")
            for i, v in enumerate(value):
                walk(v, m[1], f"{path}[{i}]")
        elif m := re.fullmatch(r"(?:dict\(|Dict\[)str, (.*)[)\]]", kind):
            if not isinstance(value, dict):
                raise ValueError(f"{path}: want a mapping")
            for k, v in value.items():
                walk(v, m[1], f"{path}.{k}")
        elif kind in plain:
            if not isinstance(value, plain[kind]) or isinstance(value, bool) and kind not in ("bool", "object"):
                raise ValueError(f"{path}: {value!r} is no {kind}")
        else:
            cls = getattr(models, kind, None) or getattr(kubernetes.client, kind)
            names = {json: (attr, cls.openapi_types[attr]) for attr, json in cls.attribute_map.items()}
            if not isinstance(value, dict):
                raise ValueError(f"{path}: want a {kind}")
            arguments = {}
            for k, v in value.items():
                if k not in names:
                    raise ValueError(f"{path}.{k}: a {kind} has no such field")
                walk(v, names[k][1], f"{path}.{k}")
                arguments[names[k][0]] = v
            cls(**arguments)  # refuses where a field that must be there is missing

    docs = documents(file)
    for d in docs:
        if (d["apiVersion"], d["kind"]) != ("serving.kserve.io/v1beta1", "InferenceService"):
            raise ValueError(f"{d['apiVersion']} {d['kind']} is no InferenceService")
        walk(d, "V1beta1InferenceService", "")
    print(f"{file}: {count} values, KServe 0.21")


def check_triton(folder, library=None):
    import onnx
    from google.protobuf import text_format
    bare("tritonclient.grpc")  # whose __init__ wants grpc
    from tritonclient.grpc import model_config_pb2 as proto

    folder = pathlib.Path(folder)
    config = text_format.Parse((folder / "config.pbtxt").read_text(), proto.ModelConfig())
    assert config.backend == "onnxruntime" and config.max_batch_size == 0, config.backend
    model = onnx.load(folder / "1" / config.default_model_filename, load_external_data=False)
    types_of = {onnx.TensorProto.FLOAT: proto.TYPE_FP32, onnx.TensorProto.INT64: proto.TYPE_INT64, onnx.TensorProto.FLOAT16: proto.TYPE_FP16}
    for side, values in (("input", model.graph.input), ("output", model.graph.output)):
        want = [(v.name, types_of[v.type.tensor_type.elem_type], [d.dim_value if d.HasField("dim_value") else -1 for d in v.type.tensor_type.shape.dim]) for v in values]
        got = [(v.name, v.data_type, list(v.dims)) for v in getattr(config, side)]
        if got != want:
            raise ValueError(f"{side}s {got}, the model has {want}")
    libraries = list(config.model_operations.op_library_filename)
    if libraries != ([library] if library else []):
        raise ValueError(f"operator libraries {libraries}")
    for t in model.graph.initializer:
        for e in t.external_data:
            if e.key == "location" and not (folder / "1" / e.value).is_file():
                raise ValueError(f"no {e.value} beside the model")
    print(f"{folder}: {len(config.input)} inputs, {len(config.output)} outputs, libraries {libraries}")


def main():
    what, *arguments = sys.argv[1:]
    try:
        {"kubernetes": check_kubernetes, "kserve": check_kserve, "triton": check_triton}[what](*arguments)
    except Exception as e:
        print(f"{what}: {type(e).__name__}: {str(e)[:2000]}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
