package org.retinaface.proof

import java.io.File
import kotlin.system.exitProcess

/**
 * What Python asks of the Kotlin side; each command reads one binary file and writes one, little-endian.
 *
 * tests/android/exchange.py writes and reads them and describes the layouts.
 */
fun main(args: Array<String>) {
    when (args.firstOrNull()) {
        "decode" -> {
            decodeCases(File(args[1]), File(args[2]))
        }

        "meshes" -> {
            meshCases(File(args[1]), File(args[2]))
        }

        "nms" -> {
            nmsCases(File(args[1]), File(args[2]))
        }

        "letterbox" -> {
            letterboxCases(File(args[1]), File(args[2]))
        }

        "tables" -> {
            tableCases(File(args[1]), File(args[2]))
        }

        "shapes" -> {
            shapeCases(File(args[1]), File(args[2]))
        }

        "upright" -> {
            uprightCases(File(args[1]), File(args[2]))
        }

        "speed" -> {
            speed()
        }

        "network" -> {
            networkCases(File(args[1]), File(args[2]), File(args[3]), File(args[4]))
        }

        "photos" -> {
            photoCases(File(args[1]), File(args[2]), File(args[3]), File(args[4]), Sink::faces)
        }

        "photo_meshes" -> {
            photoCases(File(args[1]), File(args[2]), File(args[3]), File(args[4]), Sink::meshes)
        }

        "picture" -> {
            picture(File(args[1]), File(args[2]), File(args[3]), File(args[4]))
        }

        else -> {
            System.err.println("unknown command ${args.toList()}, expected decode, nms, …, picture")
            exitProcess(2)
        }
    }
}
