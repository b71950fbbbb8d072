plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "org.retinaface.demo"
    compileSdk = 36

    defaultConfig {
        applicationId = "org.retinaface.demo"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    androidResources {
        // Stored, so that the app can map it into memory.
        noCompress += "tflite"
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
}

/** The one copy of the model in this repository is the Python runtime's; the build takes it from there. */
abstract class CopyModel : DefaultTask() {
    @get:InputFile
    abstract val model: RegularFileProperty

    @get:OutputDirectory
    abstract val folder: DirectoryProperty

    @TaskAction
    fun copy() {
        val target = folder.file("retinaface.tflite").get().asFile
        model.get().asFile.copyTo(target, overwrite = true)
    }
}

val copyModel =
    tasks.register<CopyModel>("copyModel") {
        model = rootProject.layout.projectDirectory.file(providers.gradleProperty("retinaface.model"))
    }

androidComponents {
    onVariants { variant ->
        variant.sources.assets?.addGeneratedSourceDirectory(copyModel, CopyModel::folder)
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
    implementation(libs.litert.gpu)
    implementation(libs.litert.gpu.api)
}
