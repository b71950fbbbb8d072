// RetinaFace in C++17, without dependencies: from a model file's metadata and a picture to the network's input, and
// from the network's outputs to faces. litert.hpp runs the network in between. docs/model-file.md is the contract.
#pragma once

#include "retinaface/decode.hpp"
#include "retinaface/letterbox.hpp"
#include "retinaface/mesh.hpp"
#include "retinaface/spec.hpp"
