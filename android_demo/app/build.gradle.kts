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

/** What the app carries from elsewhere in this repository: the model, of which there is one copy, and the licences. */
abstract class CopyAssets : DefaultTask() {
    @get:InputFile
    abstract val model: RegularFileProperty

    @get:InputFiles
    abstract val licences: ListProperty<RegularFile>

    @get:OutputDirectory
    abstract val folder: DirectoryProperty

    @TaskAction
    fun copy() {
        val target = folder.file("retinaface.tflite").get().asFile
        model.get().asFile.copyTo(target, overwrite = true)
        val text = licences.get().joinToString("\n\n") { it.asFile.readText() }
        folder
            .file("licences.txt")
            .get()
            .asFile
            .writeText(text)
    }
}

val copyAssets =
    tasks.register<CopyAssets>("copyAssets") {
        val root = rootProject.layout.projectDirectory
        model = root.file(providers.gradleProperty("retinaface.model"))
        licences = listOf("../LICENSE", "../NOTICE", "../web_demo/Apache-2.0.txt").map(root::file)
    }

androidComponents {
    onVariants { variant ->
        variant.sources.assets?.addGeneratedSourceDirectory(copyAssets, CopyAssets::folder)
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
    implementation(libs.litert.gpu)
    implementation(libs.litert.gpu.api)
}
